"""However a run ends, no process of it is left."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# a run that starts a daemon (a session of its own, deaf to SIGTERM, orphaned at once) and then does what it is told
RUN = """
import os, signal, subprocess, sys, time
from examples.tau2.training.supervisor import supervise

DAEMON = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"

def run(set_deadline):
    starter = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {DAEMON!r}, sys.argv[1]], start_new_session=True)"
    subprocess.run([sys.executable, "-c", starter, sys.argv[1]])
    time.sleep(1)
    print("running", flush=True)
    ACTION

sys.exit(supervise(run))
"""


def heed_signals() -> None:
    """What ran these tests may ignore some (nohup, a background job), and its children would inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(action: str, marker: str) -> subprocess.Popen:
    script = RUN.replace("ACTION", action)
    process = subprocess.Popen(
        [sys.executable, "-c", script, marker],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    while process.stdout.readline().strip() != "running":
        assert process.poll() is None
    assert alive(marker)
    return process


def alive(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if marker in (process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found


@pytest.mark.parametrize(
    "action, status",
    [
        ("return 0", 0),
        ("return 2", 2),
        ("raise RuntimeError('a worker failed')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("set_deadline(0.5); time.sleep(600)", 124),
    ],
    ids=["done", "refused", "failed", "killed", "deadline"],
)
def test_nothing_is_left_behind(action, status):
    marker = f"marker-{time.time_ns()}"
    assert start(action, marker).wait(60) == status
    assert not alive(marker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind_after_a_signal(number):
    marker = f"marker-{time.time_ns()}"
    process = start("time.sleep(600)", marker)
    process.send_signal(number)
    assert process.wait(60) == (-9 if number == signal.SIGKILL else 128 + number)
    deadline = time.monotonic() + 20  # after a SIGKILL the run cleans up alone
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(marker)
