"""Writes an evaluation's trials in tau2's own format, for `tau2 view` and tau2's metrics."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json
from tau2.config import DEFAULT_MAX_ERRORS
from tau2.data_model.simulation import AgentInfo, Info, TerminationReason, UserInfo
from tau2.environment.environment import EnvironmentInfo
from tau2.user.user_simulator import get_global_user_sim_guidelines
from tau2.utils.utils import get_commit_hash, get_now

from examples.tau2.episode import environment
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.evaluation.settings import EvaluationSettings, TrialKey
from examples.tau2.evaluation.store import Trial, TrialStore


def write_results(
    path: Path,
    settings: EvaluationSettings,
    store: TrialStore,
    trials: Sequence[Trial],
    failures: Mapping[TrialKey, str],
) -> None:
    """Write tau2's `Results` of these trials of the store, and of the tasks that they played.

    `failures` has the reason why each of other trials failed, if not because of the model. They are
    written where tau2's format has a termination reason for them.

    The episodes are copied one by one, so that any number of them fits into memory.

    Raises:
        OSError: a file cannot be read or written.
    """
    failed = list(_infrastructure_errors(failures))
    finished = (
        {**from_json(episode)["simulation"], "trial": trial.key.number}
        for trial, episode in zip(trials, store.episodes(trials), strict=True)
    )
    played = {trial.key.task_id for trial in trials} | {each["task_id"] for each in failed}
    tasks = [settings.task_row(task_id).task for task_id in settings.rows if task_id in played]
    info = {
        **_info(settings).model_dump(),
        # fields that not every tau2 knows
        "retrieval_config": environment.RETRIEVAL_VARIANTS.get(settings.econfig.domain),
        "tau2": asdict(tau2_source(settings.domains)),
    }
    head = to_json({"timestamp": get_now(), "info": info, "tasks": tasks})
    with atomic_file(path, "wb") as file:
        file.write(head.removesuffix(b"}") + b',"simulations":[')
        separator = b"\n"
        for simulation in chain(finished, failed):
            simulation["seed"] = settings.trial_seed(simulation["trial"])
            file.write(separator + to_json(simulation))
            separator = b",\n"
        file.write(b"\n]}\n")


def _infrastructure_errors(failures: Mapping[TrialKey, str]) -> Iterator[dict[str, Any]]:
    """Make tau2's simulations of trials that never ended; none in a format without their reason."""
    reason = "infrastructure_error"
    if reason not in list(TerminationReason):
        return
    for key, cause in failures.items():
        yield {
            "id": str(uuid.uuid4()),
            "task_id": key.task_id,
            "start_time": get_now(),
            "end_time": get_now(),
            "duration": 0.0,
            "termination_reason": reason,
            "messages": [],
            "trial": key.number,
            "info": {"error": cause},
        }


def _info(settings: EvaluationSettings) -> Info:
    config = settings.econfig
    sampling = {name: value for name, value in settings.sampling.items() if value is not None}
    return Info(
        git_commit=get_commit_hash(),
        num_trials=settings.num_trials,
        max_steps=config.max_steps,
        max_errors=DEFAULT_MAX_ERRORS,
        agent_info=AgentInfo(
            implementation="llm_agent_solo" if config.solo_mode else "llm_agent",
            llm=settings.model,
            llm_args=sampling,
        ),
        user_info=UserInfo(
            implementation="dummy_user" if config.solo_mode else "user_simulator",
            llm=config.user_llm,
            llm_args=config.user_llm_args,
            global_simulation_guidelines=get_global_user_sim_guidelines(),
        ),
        environment_info=_environment_info(settings.domains, config.solo_mode),
        seed=settings.seed,
    )


def _environment_info(domains: Sequence[str], solo_mode: bool) -> EnvironmentInfo:
    policies = [environment.make_environment(domain, solo_mode).get_policy() for domain in domains]
    return EnvironmentInfo(domain_name="+".join(domains), policy="\n\n".join(policies))
