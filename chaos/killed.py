"""Runs train.py, and kills it at a given moment of its training.

`python3 chaos/killed.py <moment> <number> <seconds> <options of train.py>`

The moment is a phase of AReaL's trainer, or `checkpoint`, when the weights of a checkpoint are
written and the rest is not. When the moment has begun `number` times and `seconds` have passed, all
processes of the group get SIGKILL.
"""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

# the repository's root instead of this folder
sys.path[0] = str(Path(__file__).resolve().parents[1])

from examples.tau2 import train
from examples.tau2.training.launch import PreparedRun, launch


class Killer:
    """Kills the group of this process `seconds` after the moment has begun `number` times."""

    def __init__(self, moment: str, number: int, seconds: float):
        self.moment = moment
        self.left = number
        self.seconds = seconds

    def begins(self, moment: str) -> None:
        """Take note that a moment begins."""
        if moment != self.moment:
            return
        self.left -= 1
        if self.left == 0:
            if self.seconds:
                threading.Timer(self.seconds, self.kill).start()
            else:
                self.kill()

    def kill(self) -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def prepare(argv: list[str]) -> PreparedRun:
    prepared = train.prepare(argv)
    moment, number, seconds = sys.argv[1:4]
    tell_of_moments(Killer(moment, int(number), float(seconds)))
    return prepared


def tell_of_moments(killer: Killer) -> None:
    """Have AReaL tell the killer of the phases and checkpoints that begin."""
    from areal.utils import recover, stats_tracker

    record, dump = stats_tracker.record_timing, recover.RecoverInfo.dump

    @contextmanager
    def record_and_tell(name: str, *args, **kwargs):
        killer.begins(name)
        with record(name, *args, **kwargs):
            yield

    # AReaL calls `dump` when the weights are written
    def tell_and_dump(*args, **kwargs):
        killer.begins("checkpoint")
        dump(*args, **kwargs)

    stats_tracker.record_timing = record_and_tell
    recover.RecoverInfo.dump = tell_and_dump


if __name__ == "__main__":
    sys.exit(launch(sys.argv[4:], "", prepare))
