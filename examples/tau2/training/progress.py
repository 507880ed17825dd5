"""Report each training step: one JSON record in the run's folder, and one line on the terminal."""

import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
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

# steps in a row that look like the fault of a parser before the terminal says so
SUSPICIOUS_STEPS = 3


class StepLog:
    """Logs each step with AReaL's `StatsLogger`, and writes a record of its own.

    The record has every statistic of the step, and is one line of `<run folder>/statistics.jsonl`.
    A step that a resumed run repeats replaces the record it had. Nothing here ends a run: what
    cannot be written or logged is lost, and the terminal says so.

    `after_step` is called with the arguments of `commit` when a step is recorded and shown.
    """

    def __init__(
        self,
        stats_logger: StatsLogger,
        path: Path,
        total_steps: int,
        terminal: TextIO,
        after_step: Callable[[int, int, int, dict[str, float]], None],
    ):
        self._stats_logger = stats_logger
        self._path = path
        self._total_steps = total_steps
        self._terminal = terminal
        self._after_step = after_step
        self._last_commit = time.monotonic()
        self._suspicious_steps = 0

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
            show(f"statistics of step {record['step']} are lost: {error}", self._terminal)
        show(step_line(record, self._total_steps), self._terminal)
        suspicion = parser_suspicion(data)
        self._suspicious_steps = self._suspicious_steps + 1 if suspicion else 0
        if self._suspicious_steps == SUSPICIOUS_STEPS:
            show(f"Warning: for {SUSPICIOUS_STEPS} steps {suspicion}", self._terminal)
        with self._trackers_may_fail():
            self._stats_logger.commit(epoch, step, global_step, data)
        self._after_step(epoch, step, global_step, data)

    def close(self) -> None:
        """Have AReaL's logger end its trackers."""
        with self._trackers_may_fail():
            self._stats_logger.close()

    @contextmanager
    def _trackers_may_fail(self) -> Generator[None]:
        """Show an error of wandb, SwanLab, trackio or TensorBoard in place of raising it."""
        try:
            yield
        except Exception as error:
            show(f"a tracker of stats_logger has failed: {error!r}", self._terminal)

    def _drop_other_lines(self, last_step: int) -> None:
        """Remove all lines but the complete records of the steps up to the last one."""
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if is_record(line, last_step)]
        if len(kept) < len(lines):
            with atomic_file(self._path) as file:
                file.write("".join(kept))


def show(text: str, terminal: TextIO) -> None:
    """Print a line. A terminal that is gone, or a full disk behind it, ends no run."""
    with suppress(OSError):
        print(text, file=terminal, flush=True)


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


def parser_suspicion(statistics: dict[str, float]) -> str | None:
    """Say that a step looks as if the agent's answers were parsed wrongly; None if it does not.

    Then no episode called a tool, or most turns are malformed. A model that cannot do better yet
    looks the same.
    """
    turns = statistics.get("rollout/agent/turns", 0)
    calls = statistics.get("rollout/agent/tool_calls", 0)
    malformed = statistics.get("rollout/agent/malformed_turns", 0)
    if not turns or (calls and malformed <= turns / 2):
        return None
    seen = f"{malformed / turns:.0%} of the turns are malformed" if calls else "no tool was called"
    return (
        f"{seen}. Either the model cannot do better yet, or its answers are parsed wrongly: "
        "rollout.agent.tool_call_parser and rollout.agent.reasoning_parser must fit the model, "
        "and the trajectories show what it writes"
    )
