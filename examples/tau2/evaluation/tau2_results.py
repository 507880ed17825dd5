"""Converts an evaluation's trials to tau2's own format, for `tau2 view` and tau2's metrics."""

from collections.abc import Sequence

from tau2.data_model.simulation import Results
from tau2.environment.environment import EnvironmentInfo
from tau2.run import get_info

from examples.tau2.episode import environment
from examples.tau2.evaluation.settings import EvaluationSettings
from examples.tau2.evaluation.store import Trial


def tau2_results(settings: EvaluationSettings, trials: Sequence[Trial]) -> Results:
    """Make tau2's `Results` of the trials and of the tasks that they played."""
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
    simulations = [
        trial.info.simulation.model_copy(update={"trial": trial.number}) for trial in trials
    ]
    played = {simulation.task_id for simulation in simulations}
    tasks = [settings.task_row(task_id).task for task_id in settings.rows if task_id in played]
    return Results(info=info, tasks=tasks, simulations=simulations)


def select_tasks(results: Results, task_ids: set[str]) -> Results:
    """Keep only the simulations of these tasks."""
    chosen = [simulation for simulation in results.simulations if simulation.task_id in task_ids]
    return results.model_copy(update={"simulations": chosen})


def _several_domains(domains: Sequence[str], solo_mode: bool) -> EnvironmentInfo:
    policies = [environment.make_environment(domain, solo_mode).get_policy() for domain in domains]
    return EnvironmentInfo(domain_name="+".join(domains), policy="\n\n".join(policies))
