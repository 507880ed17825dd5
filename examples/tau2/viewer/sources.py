"""Reads the records of a run: episodes, statistics, and the summary of an evaluation."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.tau2.episode.trajectory import Tau2RunInfo

# the statistics of a step by name, and its number as `step`
StepRecord = dict[str, float]

_TASK_ID = re.compile(rb'"task_id":"((?:[^"\\]|\\.)*)"')
_PASS_NAME = re.compile(r"pass[\^@]\d+")


@dataclass(frozen=True)
class EpisodeSource:
    """An episode that is not read yet.

    Episodes of equal `group` can be compared. `trial` is the number of an evaluation's trial, whose
    line begins at `offset` of the file; None outside evaluations, where an episode has a file.
    """

    group: tuple[Any, ...]
    path: Path
    trial: int | None = None
    offset: int = 0

    @property
    def name(self) -> str:
        """The name of the episode in messages."""
        return str(self.path) if self.trial is None else f"trial {self.trial}"

    def read(self) -> Tau2RunInfo:
        """Read the episode.

        Raises:
            ValueError, OSError: the episode cannot be read.
        """
        if self.trial is None:
            return Tau2RunInfo.from_json(self.path.read_bytes())
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return Tau2RunInfo.from_json(file.readline().partition(b" ")[2])


@dataclass(frozen=True)
class PassRate:
    """pass^k or pass@k of an evaluation, with its 95% interval; `name` is `pass^1`, `pass@2` ..."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class EvaluationSummary:
    """The part of summary.json that the page shows.

    `missing` is a number of trials. `usage` has tokens and USD by role: agent, user, judge.
    """

    pass_rates: tuple[PassRate, ...] = ()
    missing: int = 0
    usage: dict[str, dict[str, float]] = field(default_factory=dict)


def find_episodes(folder: Path) -> list[EpisodeSource]:
    """Find the episodes of a run, groups together, in the order of the weights that played them."""
    evaluation = folder / "episodes.jsonl"
    if evaluation.exists():
        return _evaluation_episodes(evaluation)
    generated = folder / "generated" if (folder / "generated").exists() else folder
    found = []
    for purpose in ("train", "eval"):
        for path in generated.glob(f"{purpose}/*/*.json"):
            version = path.parent.name
            if version.isdecimal():
                task = path.stem.rpartition("-")[0]
                found.append(EpisodeSource((int(version), purpose, task), path))
    return sorted(found, key=lambda source: (source.group, source.path))


def thin_out(episodes: Sequence[EpisodeSource], limit: int) -> list[EpisodeSource]:
    """Choose at most `limit` episodes, in whole groups from all over the run.

    At least one group is chosen.
    """
    groups: dict[tuple[Any, ...], list[EpisodeSource]] = defaultdict(list)
    for source in episodes:
        groups[source.group].append(source)
    chosen: list[EpisodeSource] = []
    seen = 0
    for group in groups.values():
        seen += len(group)
        allowed = seen * min(1.0, limit / len(episodes))
        if not chosen or len(chosen) + len(group) <= allowed:
            chosen += group
    return chosen


def read_statistics(path: Path) -> tuple[list[StepRecord], list[str]]:
    """Read a `statistics.jsonl`, to which a run may still be writing.

    Returns the records of the steps, and a message for each line that is no record. Both are empty
    if the file does not exist.
    """
    records: list[StepRecord] = []
    unreadable: list[str] = []
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        # the last line may be half-written
        if not line.endswith("\n") or not line.strip():
            continue
        try:
            records.append(_step_record(json.loads(line)))
        except (ValueError, AttributeError, KeyError) as error:
            unreadable.append(f"{path}, line {number}: {error}")
    return records, unreadable


def read_summary(path: Path, episodes: int) -> EvaluationSummary:
    """Read an evaluation's summary.json if it is about this number of episodes.

    Otherwise return an empty summary: the evaluation still runs, or measured only some tasks.
    """
    try:
        summary = json.loads(path.read_text())
    except (ValueError, OSError):
        return EvaluationSummary()
    missing = len(summary.get("missing", []))
    played = summary.get("episodes", 0) - (missing if summary.get("missing_as_failures") else 0)
    if played != episodes:
        return EvaluationSummary()
    pass_rates = []
    for name in filter(_PASS_NAME.fullmatch, summary):
        # it is pass^1
        if name == "pass@1":
            continue
        low, high = summary[f"{name}_interval"]
        pass_rates.append(PassRate(name, summary[name], low, high))
    return EvaluationSummary(tuple(pass_rates), missing, summary.get("usage", {}))


def _evaluation_episodes(path: Path) -> list[EpisodeSource]:
    """Find the episodes of an `episodes.jsonl`, in the order of tasks and trials."""
    found = []
    offset = 0
    with path.open("rb") as file:
        for line in file:
            # the last line may be half-written
            if line.endswith(b"\n") and line.strip():
                trial = line.partition(b" ")[0]
                task_id = _TASK_ID.search(line)
                group = (task_id[1] if task_id else b"",)
                number = int(trial) if trial.isdigit() else -1
                found.append(EpisodeSource(group, path, number, offset))
            offset += len(line)
    return sorted(found, key=lambda source: (source.group, source.trial))


def _step_record(values: dict[str, Any]) -> StepRecord:
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return {"step": numbers.pop("step"), **numbers}
