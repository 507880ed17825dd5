"""Writes an evaluation's trials in tau2's own format, for `tau2 view` and tau2's metrics."""

from collections.abc import Sequence
from pathlib import Path

from pydantic_core import from_json, to_json
from tau2.data_model.simulation import Info, Results
from tau2.environment.environment import EnvironmentInfo
from tau2.run import get_info

from examples.tau2.episode import environment
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.evaluation.settings import EvaluationSettings
from examples.tau2.evaluation.store import Trial, TrialStore


def write_results(
    path: Path, settings: EvaluationSettings, store: TrialStore, trials: Sequence[Trial]
) -> None:
    """Write tau2's `Results` of these trials of the store, and of the tasks that they played.

    The episodes are copied one by one, so that any number of them fits into memory.

    Raises:
        OSError: a file cannot be read or written.
    """
    played = {trial.key.task_id for trial in trials}
    tasks = [settings.task_row(task_id).task for task_id in settings.rows if task_id in played]
    without = Results(info=_info(settings), tasks=tasks, simulations=[]).model_dump_json()
    with atomic_file(path, "wb") as file:
        # the list of simulations is at the end
        file.write(without.removesuffix("]}").encode())
        separator = b"\n"
        for trial, episode in zip(trials, store.episodes(trials), strict=True):
            simulation = {**from_json(episode)["simulation"], "trial": trial.key.number}
            file.write(separator + to_json(simulation))
            separator = b",\n"
        file.write(b"\n]}\n")


def _info(settings: EvaluationSettings) -> Info:
    config, domains = settings.econfig, settings.domains
    info = get_info(
        domain=domains[0],
        agent="llm_agent_solo" if config.solo_mode else "llm_agent",
        user="dummy_user" if config.solo_mode else "user_simulator",
        llm_agent=settings.model,
        llm_args_agent=settings.sampling,
        llm_user=config.user_llm,
        llm_args_user=config.user_llm_args,
        num_trials=settings.num_trials,
        max_steps=config.max_steps,
    )
    if len(domains) > 1:
        info.environment_info = _several_domains(domains, config.solo_mode)
    return info


def _several_domains(domains: Sequence[str], solo_mode: bool) -> EnvironmentInfo:
    policies = [environment.make_environment(domain, solo_mode).get_policy() for domain in domains]
    return EnvironmentInfo(domain_name="+".join(domains), policy="\n\n".join(policies))
