"""The rules of tau2-bench's leaderboard: evaluates by them, and says where an evaluation differs.

They are those of tau2-bench 1.0.1 (docs/leaderboard-submission.md of its checkout).
"""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from examples.tau2.data.dataset import TaskFilter, task_rows
from examples.tau2.data.tasks import find_task_row, own_id
from examples.tau2.data.wrong_gold import wrong_gold
from examples.tau2.episode.llm import served_name
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.evaluation.settings import EvaluationSettings
from examples.tau2.evaluation.training_config import TrainingConfig, read_training_config

TAU2 = "tau2 1.0.1"
SPLIT = "base"
MIN_TRIALS = 4
SEED = 300
MAX_STEPS = 200
USER_LLM = "gpt-5.2"
USER_LLM_ARGS = {"reasoning_effort": "low"}
JUDGE_LLM = "gpt-4.1-2025-04-14"
# seconds; tau2 has no deadline
TIMEOUT = 3600.0


@dataclass(frozen=True)
class Leaderboard:
    """What the leaderboard would say of an evaluation.

    `differences` are the points in which it differs from the rules. `trained_tasks` are the ids of
    the tasks that the model was trained on.
    """

    differences: list[str]
    trained_tasks: list[str]

    @property
    def submission_type(self) -> str:
        return "custom" if self.differences else "standard"

    def to_json(self) -> dict[str, object]:
        """Make the part of summary.json."""
        return {"submission_type": self.submission_type, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Write it for human readers, line by line."""
        yield f"on the leaderboard, this is a {self.submission_type} submission"
        yield from (f"  {difference}" for difference in self.differences)
        if self.trained_tasks:
            yield f"  tasks that the model was trained on: {' '.join(self.trained_tasks)}"


def leaderboard_options(options: Namespace) -> Namespace:
    """Set the options that were not given to the leaderboard's values.

    Of a training YAML, only the domain is taken. Missing trials count as failures.

    Raises:
        ValueError: the YAML cannot be read.
    """
    training = _training(options.config)
    values: dict[str, Any] = {
        "domain": training.econfig.get("domain") if training else None,
        "split": [] if options.tasks_file else [SPLIT],
        "seed": SEED,
        "max_steps": MAX_STEPS,
        "timeout": TIMEOUT,
    }
    if not options.user_base_url:
        values["user_model"] = USER_LLM
    if served_name(options.user_model or values.get("user_model")) == USER_LLM:
        values["user_llm_args"] = USER_LLM_ARGS
    if not options.judge_base_url:
        values["judge_model"] = JUDGE_LLM
    unset = {
        name: value for name, value in values.items() if getattr(options, name) in (None, [], {})
    }
    return Namespace(**{**vars(options), **unset, "config": None, "missing_as_failures": True})


def check_rules(settings: EvaluationSettings, config: Path | None) -> Leaderboard:
    """Compare an evaluation with the leaderboard's rules; `config` is the model's training YAML.

    Raises:
        ValueError, OSError: the YAML, or the tasks of the training, cannot be read.
    """
    training = _training(config)
    trained = [] if training is None else _trained_tasks(settings, training)
    differences = list(_differences(settings))
    if training is not None:
        differences.append(
            f"the model was trained for {training.econfig.get('domain')}, on {training.dataset}: "
            f"{len(trained)} of {len(settings.rows)} tasks are in its training data"
        )
    return Leaderboard(differences, trained)


def _training(config: Path | None) -> TrainingConfig | None:
    return read_training_config(config) if config else None


def _differences(settings: EvaluationSettings) -> Iterator[str]:
    config = settings.econfig
    points = {
        "the package": (tau2_source(()).name, TAU2),
        "max_steps": (config.max_steps, MAX_STEPS),
        "seed": (settings.seed, SEED),
        "temperature": (settings.sampling.get("temperature"), 0.0),
        "tool_choice": (settings.tool_choice or "auto", "auto"),
        "solo_mode": (config.solo_mode, False),
        "add_thinking_tool": (config.add_thinking_tool, False),
        "the user LLM": (served_name(config.user_llm), USER_LLM),
        "the user LLM's arguments": (config.user_llm_args or {}, USER_LLM_ARGS),
        "the judge": (served_name(config.judge_llm), JUDGE_LLM),
        "the judge's arguments": (config.judge_llm_args or {}, {}),
    }
    for name, (value, board) in points.items():
        if value != board:
            yield f"{name}: {value}, on the leaderboard {board}"
    if config.domain == "mock":
        yield "the leaderboard has no mock"
    if config.timeout < TIMEOUT:
        yield f"timeout: {config.timeout:g} s, on the leaderboard none (the default: {TIMEOUT:g} s)"
    if settings.num_trials < MIN_TRIALS:
        yield f"trials: {settings.num_trials}, on the leaderboard at least {MIN_TRIALS}"
    base = {row["task_id"] for row in task_rows(config.domain, f"tau2/{SPLIT}")}
    if settings.rows.keys() != base:
        yield f"the tasks are not exactly those of the split {SPLIT}"
    wrong = wrong_gold(settings.task_row(task_id) for task_id in settings.rows)
    if wrong:
        yield f"tasks of an older tau2-bench, whose gold is known to be wrong: {wrong}"


def _trained_tasks(settings: EvaluationSettings, training: TrainingConfig) -> list[str]:
    """List the ids of the evaluation's tasks that are in the training data."""
    if training.dataset is None:
        return []
    domain = training.econfig.get("domain", settings.econfig.domain)
    solo_mode = training.econfig.get("solo_mode", False)
    task_filter = TaskFilter(**training.dataset_kwargs)
    rows = [
        find_task_row(row, domain)
        for row in task_rows(domain, training.dataset, solo_mode, task_filter)
    ]
    # tasks files may have other tasks with the same ids
    trained = {(row.domain, own_id(row.task)): row.task.user_scenario for row in rows}
    return [
        task_id
        for task_id in settings.rows
        for row in [settings.task_row(task_id)]
        if trained.get((row.domain, own_id(row.task))) == row.task.user_scenario
    ]
