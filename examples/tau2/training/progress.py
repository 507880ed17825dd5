"""What a training step came to: one JSON record in the run's folder, and one line for who watches."""

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO


class StepLog:
    """AReaL's `StatsLogger` with a record of each step beside it.

    Every statistic of a step becomes one line of `<run folder>/statistics.jsonl`; a step that a resumed run repeats
    replaces the record it had.
    """

    def __init__(self, stats_logger: Any, path: Path, total_steps: int, terminal: TextIO):
        self._stats_logger = stats_logger
        self._path = path
        self._total_steps = total_steps
        self._terminal = terminal
        self._last = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stats_logger, name)

    def commit(self, epoch: int, step: int, global_step: int, data: dict[str, float]) -> None:
        now = time.monotonic()
        record = {"step": global_step + 1, "time": time.time(), "seconds": now - self._last, **data}
        self._last = now
        try:
            lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
            kept = [line for line in lines if is_record(line, global_step)]
            if len(kept) < len(lines):
                partial = self._path.with_suffix(".partial")
                partial.write_text("".join(kept))
                partial.replace(self._path)
            with self._path.open("a") as file:
                file.write(json.dumps(record, default=float) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            print(f"statistics of step {record['step']} are lost: {error}", file=self._terminal)
        print(step_line(record, self._total_steps), file=self._terminal, flush=True)
        self._stats_logger.commit(epoch, step, global_step, data)


def is_record(line: str, last_step: int) -> bool:
    """Whether it is the whole record of a step up to the last; a disk that is full leaves halves."""
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= last_step
    except ValueError:
        return False


def step_line(record: dict[str, float], total_steps: int) -> str:
    """One line on a step, e.g. `step 3/6 | reward 0.41 | solved 38% | 2.3 steps per episode | 14.2 s`."""
    parts = [f"step {record['step']}/{total_steps}"]
    for key, form in (
        ("rollout/episode/reward", "reward {:.3f}"),
        ("rollout/episode/solved", "solved {:.0%}"),
        ("rollout/episode/steps", "{:.1f} steps per episode"),
        ("eval-rollout/episode/reward", "eval reward {:.3f}"),
        ("sft/loss/avg", "loss {:.3f}"),
        ("sft-eval/loss/avg", "eval loss {:.3f}"),
        ("seconds", "{:.1f} s"),
    ):
        if key in record:
            parts.append(form.format(record[key]))
    return " | ".join(parts)
