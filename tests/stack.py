"""Runs of train.py as processes: on the CPU, with the tiny model, each in a folder of its own."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PATIENCE = 900.0  # seconds


def command(
    fileroot: Path, *overrides: str, script: tuple[str, ...] = ("examples/tau2/train.py",)
) -> list[str]:
    return [
        *(sys.executable, *script, "--config", "examples/tau2/config_cpu.yaml"),
        *("experiment_name=test", "trial_name=trial", f"cluster.fileroot={fileroot}", *overrides),
    ]


def start(words: list[str], output: Path, **options) -> subprocess.Popen:
    """What the process prints is appended to the file `output`."""
    return subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output.open("a"),
        stderr=subprocess.STDOUT,
        **options,
    )


def wait_for(text: str, process: subprocess.Popen, output: Path) -> None:
    """Until the process has printed the text."""
    deadline = time.monotonic() + PATIENCE
    while text not in output.read_text():
        assert process.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)


def processes_of(fileroot: Path) -> list[psutil.Process]:
    """Every process with the run's folder in its command line (all of AReaL's workers) or among their children."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "name", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (
            str(fileroot) in " ".join(process.info["cmdline"] or [])
            or "sglang" in process.info["name"]
        )
    ]


def folder_of(fileroot: Path) -> Path:
    (folder,) = fileroot.glob("logs/*/test/trial")
    return folder
