"""Checks the options of the judge, without calling its LLM."""

from collections.abc import Iterator

from examples.tau2.data.tasks import own_id
from examples.tau2.episode.judge import needs_judge
from examples.tau2.episode.llm import argument_problem
from examples.tau2.training.checks.data import datasets_by_option, is_readable, read_tasks
from examples.tau2.utils import Tau2PPOConfig


def check_judge(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield the data sets whose tasks need a judge, if there is none, and arguments it refuses."""
    econfig = config.econfig
    problem = argument_problem(econfig.judge_llm_args or {})
    if problem:
        yield f"econfig.judge_llm_args: {problem}"
    if econfig.names_judge:
        return
    for option, tasks in tasks_to_judge(config).items():
        yield (
            f"econfig.judge_llm is not set, and an LLM must judge assertions of these tasks of "
            f"{option}: {' '.join(tasks)}; name a model, e.g. openai/gpt-4.1-2025-04-14, or leave "
            f"the tasks out by {option}.dataset_kwargs.exclude"
        )


def tasks_to_judge(config: Tau2PPOConfig) -> dict[str, list[str]]:
    """List the ids of the tasks that need a judge, by the option of their data set."""
    found: dict[str, list[str]] = {}
    if not is_readable(config.econfig.domain):
        return found
    for option, dataset in datasets_by_option(config).items():
        try:
            rows = read_tasks(config, dataset)
        except (ValueError, OSError):
            # `check_data` says what is wrong
            continue
        tasks = [own_id(row.task) for row in rows if needs_judge(row.task)]
        if tasks:
            found[option] = tasks
    return found
