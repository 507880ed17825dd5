"""Report each training step: one JSON record in the run's folder, and one line on the terminal."""

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from areal.utils.stats_logger import StatsLogger

from examples.tau2.episode.atomic import atomic_file

# numbers of a step that its line shows
SHOWN = (
    ("rollout/episode/reward", "reward {:.3f}"),
    ("rollout/episode/solved", "solved {:.0%}"),
    ("rollout/episode/steps", "{:.1f} steps per episode"),
    ("eval-rollout/episode/reward", "eval reward {:.3f}"),
    ("sft/loss/avg", "loss {:.3f}"),
    ("sft-eval/loss/avg", "eval loss {:.3f}"),
    ("seconds", "{:.1f} s"),
)


class StepLog:
    """Logs each step with AReaL's `StatsLogger`, and writes a record of its own.

    The record has every statistic of the step, and is one line of `<run folder>/statistics.jsonl`.
    A step that a resumed run repeats replaces the record it had.
    """

    def __init__(self, stats_logger: StatsLogger, path: Path, total_steps: int, terminal: TextIO):
        self._stats_logger = stats_logger
        self._path = path
        self._total_steps = total_steps
        self._terminal = terminal
        self._last_commit = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stats_logger, name)

    def commit(self, epoch: int, step: int, global_step: int, data: dict[str, float]) -> None:
        """Record and show a step, and have AReaL's logger log it."""
        now = time.monotonic()
        seconds = now - self._last_commit
        self._last_commit = now
        record = {"step": global_step + 1, "time": time.time(), "seconds": seconds, **data}
        try:
            self._drop_other_lines(global_step)
            with self._path.open("a") as file:
                file.write(json.dumps(record, default=float) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            print(f"statistics of step {record['step']} are lost: {error}", file=self._terminal)
        print(step_line(record, self._total_steps), file=self._terminal, flush=True)
        self._stats_logger.commit(epoch, step, global_step, data)

    def _drop_other_lines(self, last_step: int) -> None:
        """Remove all lines but the complete records of the steps up to the last one."""
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if is_record(line, last_step)]
        if len(kept) < len(lines):
            with atomic_file(self._path) as file:
                file.write("".join(kept))


def is_record(line: str, last_step: int) -> bool:
    """Tell whether a line is the complete record of a step up to the last one.

    A disk that was full leaves part of a record.
    """
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= last_step
    except ValueError:
        return False


def step_line(record: dict[str, float], total_steps: int) -> str:
    """Write one line on a step, e.g. `step 3/6 | reward 0.412 | solved 38% | 61.2 s`."""
    parts = [f"step {record['step']}/{total_steps}"]
    for key, form in SHOWN:
        if key in record:
            parts.append(form.format(record[key]))
    return " | ".join(parts)
