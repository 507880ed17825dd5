"""`python3 chaos/killed.py <moment> <number> <seconds> <options of train.py>`: train.py, killed when it comes to a moment.

All processes of its group get SIGKILL so many seconds after the moment, a phase of AReaL's trainer or `checkpoint` (the weights
are written, the rest is not), has begun for the `number`th time.
"""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from examples.tau2 import train
from examples.tau2.training.launch import Job, launch


def check(argv: list[str]) -> Job:
    job = train.prepare(argv)
    moment, left, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

    def kill() -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def arrive(name: str) -> None:
        nonlocal left
        left -= name == moment
        if name == moment and left == 0:
            threading.Timer(seconds, kill).start() if seconds else kill()

    from areal.utils import recover, stats_tracker

    record, dump = stats_tracker.record_timing, recover.RecoverInfo.dump

    @contextmanager
    def recorded(name: str, *args, **kwargs):
        arrive(name)
        with record(name, *args, **kwargs):
            yield

    def dumped(*args, **kwargs):  # after the weights
        arrive("checkpoint")
        dump(*args, **kwargs)

    stats_tracker.record_timing, recover.RecoverInfo.dump = recorded, dumped
    return job


if __name__ == "__main__":
    sys.exit(launch(sys.argv[4:], "", check))
