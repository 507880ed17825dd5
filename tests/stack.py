"""Runs of train.py as processes: on the CPU, with the tiny model, each in a folder of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from examples.tau2.episode.trajectory import Tau2RunInfo

ROOT = Path(__file__).parents[1]

# A run may be slow, because the machine may be; pytest's timeout ends a run that hangs.
UNHURRIED = ("run_timeout=null", "econfig.timeout=1800", "rollout.setup_timeout=3600")


def command(
    fileroot: Path, *overrides: str, script: tuple[str, ...] = ("examples/tau2/train.py",)
) -> list[str]:
    """Return the words of the command that starts a run in the folder `fileroot`."""
    return [
        *(sys.executable, *script, "--config", "examples/tau2/config_cpu.yaml"),
        *("experiment_name=test", "trial_name=trial", f"cluster.fileroot={fileroot}"),
        *UNHURRIED,
        *overrides,
    ]


@contextmanager
def running(words: list[str], output: Path, **options) -> Iterator[subprocess.Popen]:
    """Start a process and end it with the block, so that a test that fails leaves none behind.

    The process gets SIGTERM, so that it ends all that it has started. What it prints is appended to
    the file `output`. `options` are those of `subprocess.Popen`.
    """
    with output.open("a") as file:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def run_to_the_end(words: list[str], output: Path, **options) -> str:
    """Run a process to its end, with status 0, and return what it printed.

    The arguments are those of `running`.
    """
    with running(words, output, **options) as process:
        status = process.wait()
    printed = output.read_text()
    assert status == 0, printed
    return printed


def wait_for(text: str, process: subprocess.Popen, output: Path) -> None:
    """Return when the process has printed the text."""
    while True:
        has_ended = process.poll() is not None
        printed = output.read_text()
        if text in printed:
            return
        assert not has_ended, printed
        time.sleep(0.2)


def processes_of(fileroot: Path) -> list[psutil.Process]:
    """Return every process of a run, with its command line as `info["cmdline"]`.

    AReaL's workers have the run's folder in their command lines. The names of SGLang's processes
    contain "sglang".
    """
    found = []
    for process in psutil.process_iter(["cmdline", "name", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        is_of_the_run = str(fileroot) in words or "sglang" in process.info["name"]
        if is_of_the_run and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def folder_of(fileroot: Path) -> Path:
    """Return the folder of the run's records."""
    (folder,) = fileroot.glob("logs/*/test/trial")
    return folder


def statistics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the statistics of each step from the folder of a run's records."""
    return [json.loads(line) for line in (folder / "statistics.jsonl").read_text().splitlines()]


def trajectories_of(folder: Path) -> list[Tau2RunInfo]:
    """Return all trajectories from the folder of a run's records."""
    return [Tau2RunInfo.from_json(path.read_bytes()) for path in folder.glob("generated/**/*.json")]
