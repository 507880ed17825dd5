"""Makes the settings of an evaluation from the command's options: the tasks, and the models."""

import hashlib
import json
import random
import re
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from examples.tau2.data.dataset import (
    BadTasks,
    TaskFilter,
    absolute_path,
    excludable_ids,
    is_tasks_file,
    task_rows,
)
from examples.tau2.data.hub import HubError
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import TaskRow, explain_error, tasks_file_digest
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.judge import needs_judge
from examples.tau2.episode.llm import argument_problem, key_argument
from examples.tau2.episode.tau2_data import data_digest, tau2_source
from examples.tau2.episode.variables import provider_servers, without_password
from examples.tau2.evaluation.training_config import TrainingConfig, read_training_config

# the fields of the episodes' config that have an option, and the option's name
ECONFIG_OPTIONS = {
    "domain": "domain",
    "max_steps": "max_steps",
    "timeout": "timeout",
    "solo_mode": "solo_mode",
    "add_thinking_tool": "add_thinking_tool",
    "user_llm_base_url": "user_base_url",
    "user_llm": "user_model",
    "judge_llm_base_url": "judge_base_url",
    "judge_llm": "judge_model",
}
SAMPLING_OPTIONS = ("temperature", "top_p", "max_completion_tokens")
DEFAULT_SAMPLING = {"temperature": 0.0}


class TrialKey(NamedTuple):
    """The id of a task, and the number of one of its trials, counted from 0."""

    task_id: str
    number: int


class Difference(NamedTuple):
    """The value of a setting in the training YAML, and its value in this evaluation."""

    training: object
    evaluation: object


@dataclass(frozen=True)
class EvaluationSettings:
    """The tasks, the models, and how episodes are played.

    `sampling` has the arguments of the model's calls. `datasets` are the paths of the data sets.
    `rows` are the rows that are played, by task id. Each task is played `num_trials` times.
    `seed` is the one from which the trials' seeds are drawn; None sends none.
    `tool_choice` is None for tau2's own choice. `training_differences` names the settings that
    differ from those of the training YAML; it is empty without a YAML.
    """

    econfig: Tau2EnvConfig
    sampling: dict[str, Any]
    base_url: str | None
    model: str | None
    datasets: list[str]
    rows: dict[str, dict[str, Any]]
    num_trials: int
    seed: int | None
    tool_choice: str | None
    training_differences: dict[str, Difference]

    def task_row(self, task_id: str) -> TaskRow:
        return find_task_row(self.rows[task_id], self.econfig.domain)

    @cached_property
    def domains(self) -> list[str]:
        """List the domains of the tasks, in alphabetical order."""
        return sorted({self.task_row(task_id).domain for task_id in self.rows})

    def tasks_to_judge(self) -> list[str]:
        """List the ids of the tasks whose assertions an LLM must judge."""
        return [task_id for task_id in self.rows if needs_judge(self.task_row(task_id).task)]

    def trial_keys(self) -> list[TrialKey]:
        """List all trials, in the order in which they are played."""
        return [
            TrialKey(task_id, number) for number in range(self.num_trials) for task_id in self.rows
        ]

    def trial_seed(self, number: int) -> int | None:
        """Return the seed of all trials of this number: the one that tau2 draws for them."""
        if self.seed is None:
            return None
        draws = random.Random(self.seed)
        return [draws.randint(0, 1_000_000) for _ in range(number + 1)][-1]

    def trial_sampling(self, number: int) -> dict[str, Any]:
        """Return the arguments of the model's calls in the trials of this number."""
        return self._with_seed(number, self.sampling)

    def trial_econfig(self, number: int) -> Tau2EnvConfig:
        """Return the episodes' config in the trials of this number."""
        arguments = self._with_seed(number, self.econfig.user_llm_args or {})
        return replace(self.econfig, user_llm_args=arguments)

    def _with_seed(self, number: int, arguments: dict[str, Any]) -> dict[str, Any]:
        """Add the seed to an LLM's arguments, if they do not say themselves what to send."""
        seed = self.trial_seed(number)
        return arguments if seed is None else {"seed": seed, **arguments}

    def identity(self) -> dict[str, object]:
        """Describe all that an episode depends on, except its task.

        Evaluations of equal identity share their episodes.
        """
        identity: dict[str, object] = {
            "econfig": {
                **asdict(self.econfig),
                "user_llm_base_url": without_password(self.econfig.user_llm_base_url),
                "judge_llm_base_url": without_password(self.econfig.judge_llm_base_url),
            },
            "sampling": self.sampling,
            "base_url": without_password(self.base_url),
            "model": self.model,
            "tau2": asdict(tau2_source(self.domains)),
            "data": {domain: data_digest(domain) for domain in self.domains},
        }
        files = [path for path in self.datasets if is_tasks_file(path)]
        if files:
            domain = self.econfig.domain
            identity["tasks_files"] = {path: tasks_file_digest(path, domain) for path in files}
        if self.seed is not None:
            identity["seed"] = self.seed
        if self.tool_choice:
            identity["tool_choice"] = self.tool_choice
        models = [] if self.base_url else [self.model]
        if not (self.econfig.solo_mode or self.econfig.user_llm_base_url):
            models.append(self.econfig.user_llm)
        if not self.econfig.judge_llm_base_url:
            models.append(self.econfig.judge_llm)
        servers = provider_servers(models)
        if servers:
            identity["provider_servers"] = servers
        return identity

    def folder_name(self) -> str:
        """Make the name of the folder of results: domains, model, and a hash of the identity."""
        identity = json.dumps(self.identity(), sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        name = f"{'+'.join(self.domains)}-{self.model or 'default'}-{digest}"
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


def settings_from_options(options: Namespace) -> EvaluationSettings:
    """Make the settings from the options of `evaluate.py`, check them, and read the tasks.

    An option overrides the training YAML of `--config`, and the YAML overrides the defaults.

    Raises:
        ValueError: an option makes no sense, a task cannot be played, or a file cannot be read.
    """
    training = read_training_config(options.config) if options.config else None
    econfig = _econfig(options, training)
    sampling = dict(training.evaluation_sampling if training else DEFAULT_SAMPLING)
    sampling |= _given(options, {name: name for name in SAMPLING_OPTIONS}) | options.llm_args
    _check_arguments("--llm-args", sampling, key_variable(options.base_url))
    _check_arguments("--user-llm-args", econfig.user_llm_args or {}, "TAU2_USER_LLM_API_KEY")
    _check_arguments("--judge-llm-args", econfig.judge_llm_args or {}, "TAU2_JUDGE_LLM_API_KEY")
    _check_options(options, econfig)
    datasets = _datasets(options, econfig)
    settings = EvaluationSettings(
        econfig=econfig,
        sampling=sampling,
        base_url=options.base_url,
        model=options.model,
        datasets=datasets,
        rows=_rows(datasets, econfig, options.tasks, options.exclude),
        num_trials=options.trials,
        seed=options.seed,
        tool_choice=options.tool_choice,
        training_differences=(
            _training_differences(training, econfig, sampling, options.tool_choice)
            if training
            else {}
        ),
    )
    judged = settings.tasks_to_judge()
    if judged and not econfig.names_judge:
        raise ValueError(
            f"an LLM must judge assertions of the tasks {' '.join(judged)}: name the judge by "
            "--judge-model or --judge-base-url, or leave the tasks out by --exclude"
        )
    return settings


def _econfig(options: Namespace, training: TrainingConfig | None) -> Tau2EnvConfig:
    fields = {**(training.econfig if training else {}), **_given(options, ECONFIG_OPTIONS)}
    for name in ("user_llm_args", "judge_llm_args"):
        if given := getattr(options, name):
            fields[name] = {**(fields.get(name) or {}), **given}
    return Tau2EnvConfig(**fields)


def _given(options: Namespace, names: dict[str, str]) -> dict[str, Any]:
    """Collect the options that the user gave, by field; `names` maps a field to its option."""
    values = {field: getattr(options, option) for field, option in names.items()}
    return {field: value for field, value in values.items() if value is not None}


def key_variable(base_url: str | None) -> str:
    """Name the environment variable with the key of the model's server, or of its provider."""
    return "OPENAI_API_KEY" if base_url else "the provider's own, such as ANTHROPIC_API_KEY"


def _check_arguments(option: str, arguments: dict[str, Any], variable: str) -> None:
    problem = argument_problem(arguments)
    if problem:
        raise ValueError(f"{option}: {problem}")
    key = key_argument(arguments)
    if key:
        raise ValueError(f"{option}: {key} would be saved with the results; set {variable} instead")


def _check_options(options: Namespace, econfig: Tau2EnvConfig) -> None:
    """Check all that can be checked before the tasks are read."""
    if econfig.domain not in environment.DOMAINS:
        raise ValueError(f"--domain {econfig.domain}: choose one of {environment.DOMAIN_CHOICES}")
    if not (options.base_url or options.model):
        raise ValueError("name the model: --base-url of its server, --model, or both")
    if not (econfig.solo_mode or econfig.names_user_llm):
        raise ValueError(
            "name the user simulator: --user-base-url of its server, --user-model, or both; "
            "or --solo-mode"
        )
    for name in ("trials", "concurrency", "attempts"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    # `not ... > 0` refuses NaN too
    if not econfig.max_steps > 0:
        raise ValueError("--max-steps must be greater than 0")
    if not econfig.timeout > 0:
        raise ValueError("--timeout must be greater than 0")


def _datasets(options: Namespace, econfig: Tau2EnvConfig) -> list[str]:
    """List the paths of the data sets: the domain's test split, if the options name none."""
    splits = options.split
    if not splits and not options.tasks_file:
        splits = ["test"]
    if splits and econfig.solo_mode and econfig.domain not in environment.SOLO_DOMAINS:
        raise ValueError(f"--solo-mode: {econfig.domain} cannot be played solo")
    try:
        files = [absolute_path(path) for path in options.tasks_file]
    except HubError as error:
        raise ValueError(f"--tasks-file: {error}") from error
    return [f"tau2/{split}" for split in splits] + files


def _rows(
    datasets: list[str],
    econfig: Tau2EnvConfig,
    chosen: list[str] | None,
    excluded: list[str],
) -> dict[str, dict[str, Any]]:
    """Read the rows of the data sets by task id; only the `chosen` ones, if there are any."""
    rows: dict[str, dict[str, Any]] = {}
    unknown = excluded
    for path in datasets:
        name = f"--tasks-file {path}" if is_tasks_file(path) else path
        try:
            known = excludable_ids(econfig.domain, path)
            task_filter = TaskFilter(exclude=tuple(id_ for id_ in excluded if id_ in known))
            found = task_rows(econfig.domain, path, econfig.solo_mode, task_filter)
        except BadTasks as error:
            raise ValueError("\n  ".join([f"{name}:", *error.problems])) from error
        except (ValueError, OSError) as error:
            raise ValueError(f"{name}: {explain_error(error)}") from error
        for row in found:
            rows[find_task_row(row, econfig.domain).task.id] = row
        unknown = [task_id for task_id in unknown if task_id not in known]
    if unknown:
        raise ValueError(f"--exclude: there is no task {', '.join(map(repr, unknown))}")
    if not chosen:
        return rows
    for task_id in chosen:
        if task_id not in rows:
            raise ValueError(f"--tasks {task_id}: no task of {' or '.join(datasets)}")
    wanted = set(chosen)
    return {task_id: row for task_id, row in rows.items() if task_id in wanted}


def _training_differences(
    training: TrainingConfig,
    econfig: Tau2EnvConfig,
    sampling: dict[str, Any],
    tool_choice: str | None,
) -> dict[str, Difference]:
    """Find the settings of the YAML that have another value in this evaluation, by name."""
    evaluated = {**asdict(econfig), **sampling}
    differences = {}
    for name, value in {**training.econfig, **training.training_sampling}.items():
        if value != evaluated.get(name):
            differences[name] = Difference(value, evaluated.get(name))
    penalty = training.econfig.get("invalid_format_penalty")
    if penalty:
        differences["penalty of a malformed turn"] = Difference(penalty, 0.0)
    # in training, AReaL's proxy ignores the tool choice, which is like auto
    chosen = tool_choice or ("required" if econfig.solo_mode else "auto")
    if chosen == "required":
        differences["tool_choice"] = Difference("auto", chosen)
    return differences
