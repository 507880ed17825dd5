"""However a run ends, no process of it is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.waiting import until

pytestmark = pytest.mark.processes

# A run that starts a daemon and then does what it is told. The daemon has a session of its own,
# ignores SIGTERM, and is an orphan from the beginning.
RUN = """
import os, signal, subprocess, sys, time
from examples.tau2.training.supervisor import supervise

DAEMON = '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
'''
STARTER = '''
import subprocess, sys
words = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
daemon = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE)
daemon.stdout.readline()
'''

def run(set_deadline):
    subprocess.run([sys.executable, "-c", STARTER, DAEMON, sys.argv[1]])
    print("running", flush=True)
    ACTION

sys.exit(supervise(run))
"""


def heed_signals() -> None:
    """Let a process end by SIGINT and SIGHUP, which it may have inherited as ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def running(action: str, marker: str) -> Iterator[subprocess.Popen]:
    """Start a supervised run, and yield it when its daemon runs; the run ends with the block."""
    script = RUN.replace("ACTION", action)
    with subprocess.Popen(
        [sys.executable, "-c", script, marker],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    ) as process:
        try:
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.terminate()


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
        ("set_deadline(0.5); time.sleep(3600)", 124),
    ],
    ids=["done", "refused", "failed", "killed", "deadline"],
)
def test_nothing_is_left_behind(action, status):
    marker = f"marker-{time.time_ns()}"
    with running(action, marker) as process:
        assert process.wait() == status
        assert not alive(marker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind_after_a_signal(number):
    marker = f"marker-{time.time_ns()}"
    with running("time.sleep(3600)", marker) as process:
        assert alive(marker)
        process.send_signal(number)
        assert process.wait() == (-9 if number == signal.SIGKILL else 128 + number)
        # after a SIGKILL the run cleans up alone
        until(lambda: number != signal.SIGKILL or not alive(marker))
        assert not alive(marker)
