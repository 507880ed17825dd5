"""Reads recorded episodes that earned the full reward: those of this project, and tau2's results.

A record is a trajectory of `train.py` (a file, or folders of them), the `episodes.jsonl` of
`evaluate.py`, or tau2's `Results`, as `tau2 run` writes them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tau2.data_model.message import AssistantMessage
from tau2.data_model.simulation import Info, SimulationRun
from tau2.data_model.tasks import Task

from examples.tau2.data.files import (
    EPISODES,
    TAU2_RESULTS,
    TRAJECTORY,
    WrongFile,
    kind_of,
)
from examples.tau2.data.tasks import dataset_row, find_task_row
from examples.tau2.data.tasks_file import TaskRow, explain_error
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.trajectory import Tau2RunInfo

WANTED = (
    "trajectories, an episodes.jsonl, tau2's results, or a folder with any of them, such as a "
    "run's, is wanted"
)


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode that can be played again: its config, its task, and tau2's record of it."""

    econfig: Tau2EnvConfig
    row: TaskRow
    simulation: SimulationRun


class _Results(BaseModel):
    """tau2's `Results`, whose tasks and simulations are not validated yet."""

    info: Info
    tasks: list[dict[str, Any]]
    simulations: list[dict[str, Any]]


def successful_episodes(paths: Iterable[Path]) -> Iterator[RecordedEpisode]:
    """Read the episodes with the full reward from files, and from folders with all below them.

    An evaluation's folder has its episodes twice, in episodes.jsonl and as tau2's results; they are
    read once.

    Raises:
        LookupError: the task of an episode is gone.
        ValueError, OSError: a file is no record of episodes, or an episode cannot be read.
    """
    for path in paths:
        for file, kind in _records(path):
            yield from _READERS[kind](file)


def _records(path: Path) -> list[tuple[Path, str]]:
    """List the records at a path, each with its kind."""
    kind = kind_of(path)
    if not path.is_dir():
        if kind not in _READERS:
            raise WrongFile(f"{path}: this is {kind}; {WANTED}")
        return [(path, kind)]
    generated = path / "generated"
    files = sorted((generated if generated.is_dir() else path).rglob("*.json*"))
    found = [(file, kind_of(file)) for file in files if file.suffix in (".json", ".jsonl")]
    folders = {file.parent for file, kind in found if kind == EPISODES}
    records = [
        (file, kind)
        for file, kind in found
        if kind in _READERS and not (kind == TAU2_RESULTS and file.parent in folders)
    ]
    if not records:
        raise WrongFile(f"{path} has no episodes: it is {kind}; {WANTED}")
    return records


def _read_trajectory(path: Path) -> Iterator[RecordedEpisode]:
    yield from _successful(path.read_bytes(), str(path))


def _read_episodes(path: Path) -> Iterator[RecordedEpisode]:
    """Read an `episodes.jsonl`, to which an evaluation may still be writing."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            # the last line may be half-written
            if line.endswith(b"\n"):
                # the number of the trial comes first
                yield from _successful(line.partition(b" ")[2], f"{path}, line {number}")


def _successful(data: bytes, place: str) -> Iterator[RecordedEpisode]:
    """Read an episode of this project, and yield it if it has the full reward."""
    try:
        info = Tau2RunInfo.from_json(data)
    except ValueError as error:
        raise ValueError(f"{place}: no episode: {explain_error(error)}") from None
    if info.reward == 1.0:
        econfig = _econfig(info.simulation, info.domain, info.solo_mode, info.add_thinking_tool)
        row = find_task_row(dataset_row(info.task_id), info.domain)
        yield RecordedEpisode(econfig, row, info.simulation)


def _read_results(path: Path) -> Iterator[RecordedEpisode]:
    """Read tau2's results; episodes of other rewards need not be valid."""
    try:
        results = _Results.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: no results of tau2: {explain_error(error)}") from None
    tasks = {task.get("id"): task for task in results.tasks}
    for number, record in enumerate(results.simulations):
        if (record.get("reward_info") or {}).get("reward") != 1.0:
            continue
        try:
            simulation = SimulationRun.model_validate(record)
            if simulation.task_id not in tasks:
                raise ValueError(f"the file does not have its task {simulation.task_id!r}")
            task = Task.model_validate(tasks[simulation.task_id])
            yield _episode_of_results(results.info, task, simulation)
        except ValueError as error:
            raise ValueError(f"{path}, simulations[{number}]: {explain_error(error)}") from None


def _episode_of_results(info: Info, task: Task, simulation: SimulationRun) -> RecordedEpisode:
    domain = _domain(info, task)
    if domain not in environment.DOMAINS:
        raise ValueError(f"the domain {domain!r} is none of {environment.DOMAIN_CHOICES}")
    # tau2, too, knows its solo agent by this word
    solo_mode = "solo" in info.agent_info.implementation
    calls = [
        call.name
        for message in simulation.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or []
    ]
    data = dataset_row(task.id)
    row = TaskRow(task, domain, None, f"task {task.id!r}")
    if "tasks_file" in data:
        row = find_task_row(data, domain)
    econfig = _econfig(simulation, domain, solo_mode, thinking_tool="think" in calls)
    return RecordedEpisode(econfig, row, simulation)


def _domain(info: Info, task: Task) -> str:
    """Find the domain of a task; this project joins the names of several domains by `+`."""
    first, *others = domains = info.environment_info.domain_name.split("+")
    instructions = task.user_scenario.instructions
    if others and not isinstance(instructions, str) and instructions.domain in domains:
        return instructions.domain
    for domain in others:
        if task.id in environment.load_tasks(domain):
            return domain
    return first


def _econfig(
    simulation: SimulationRun, domain: str, solo_mode: bool, thinking_tool: bool
) -> Tau2EnvConfig:
    """Make the config of an episode, with enough steps to play it again."""
    return Tau2EnvConfig(
        domain=domain,
        solo_mode=solo_mode,
        add_thinking_tool=thinking_tool,
        max_steps=len(simulation.messages) + 1,
    )


_READERS = {
    TRAJECTORY: _read_trajectory,
    EPISODES: _read_episodes,
    TAU2_RESULTS: _read_results,
}
