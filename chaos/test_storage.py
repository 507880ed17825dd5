"""A disk becomes full, read-only or slow during a run: little is lost, and the run can resume."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.stack import command, folder_of, processes_of, run_to_the_end, running, wait_for

STEPS = 4
OPTIONS = (
    f"total_train_steps={STEPS}",
    "group_filter=false",
    "actor.path=.cache/tiny-qwen3",
    "recover.mode=on",
    "recover.freq_steps=1",
    "saver.freq_steps=1",
)


def as_root(*command: str) -> None:
    subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Yield the folder of a file system of its own, which has 2 GB."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    try:
        as_root("truncate", "--size=2G", str(image))
        as_root("mkfs.ext4", "-q", str(image))
        as_root("mount", "-o", "loop", str(image), str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    yield folder
    as_root("umount", "--lazy", str(folder))


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(2**20))
            file.flush()


@contextmanager
def full(disk: Path) -> Iterator[str]:
    """Yield the error that a full disk causes."""
    fill(disk)
    yield "No space left on device"
    (disk / "filler").unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[str]:
    """Yield the error that a read-only disk causes.

    After an error, ext4 makes itself read-only, and what it has not written by then is lost.
    """
    as_root("mount", "-o", "remount,abort", str(disk))
    yield "Read-only file system"
    as_root("umount", str(disk))
    # its status says that it has repaired something
    subprocess.run(["e2fsck", "-fy", f"{disk.parent}/image"], check=False)
    as_root("mount", "-o", "loop", f"{disk.parent}/image", str(disk))


def steps_of(disk: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder_of(disk) / "statistics.jsonl").open()]


@pytest.mark.parametrize("broken", [full, read_only])
def test_a_run_whose_disk_fails_says_so_and_can_resume(broken, disk, tmp_path, capsys):
    output = tmp_path / "printed"
    with running(command(disk, *OPTIONS), output) as process:
        wait_for("step 1/", process, output)
        with broken(disk) as cause:
            assert process.wait() not in (0, 124), output.read_text()
            printed = output.read_text()
            assert "The run failed:" in printed and cause in printed
            assert processes_of(disk) == []
    run_to_the_end(command(disk, *OPTIONS), output)
    assert steps_of(disk) == list(range(1, STEPS + 1))
    with capsys.disabled():
        afterwards = output.read_text().removeprefix(printed)
        print(f"\n{printed[-300:]}\nand afterwards:\n{afterwards}")


def test_a_slow_disk_loses_nothing(disk, tmp_path, capsys):
    """For a minute, every write waits for up to two seconds."""
    output = tmp_path / "printed"
    with running(command(disk, *OPTIONS), output) as process:
        wait_for("step 1/", process, output)
        for _ in range(25):
            as_root("fsfreeze", "--freeze", str(disk))
            time.sleep(2)
            as_root("fsfreeze", "--unfreeze", str(disk))
            time.sleep(0.4)
        assert process.wait() == 0, output.read_text()
    assert steps_of(disk) == list(range(1, STEPS + 1))
    first = list(folder_of(disk).glob("generated/train/0/*.json"))
    # whole groups
    assert len(first) % 8 == 0 and len(first) >= 48
    with capsys.disabled():
        print(f"\n{output.read_text()}")
