"""Checks the domain, the data sets, and the folder with tau2's data."""

from collections import Counter
from collections.abc import Iterator

from areal.api.cli_args import TrainDatasetConfig, ValidDatasetConfig
from pydantic import ValidationError

from examples.tau2.data.dataset import BadTasks, TaskFilter, task_rows
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import TaskRow, explain_error
from examples.tau2.episode import environment
from examples.tau2.episode.tau2_data import data_digest, data_problem
from examples.tau2.utils import Tau2PPOConfig

DatasetConfig = TrainDatasetConfig | ValidDatasetConfig


def check_data(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield the problems of the domain and of the data sets, whose tasks are read."""
    econfig = config.econfig
    if config.valid_dataset and config.valid_dataset.drop_last:
        yield "valid_dataset.drop_last=true leaves tasks out of the validation; set it to false"
    if econfig.domain not in environment.DOMAINS:
        yield (
            f"econfig.domain={econfig.domain!r} is unknown; "
            f"choose one of {environment.DOMAIN_CHOICES}"
        )
        return
    if econfig.solo_mode and econfig.domain not in environment.SOLO_DOMAINS:
        yield (
            f"econfig.solo_mode=true: tau2's {econfig.domain} has no solo mode; set it to false, "
            f"or econfig.domain to one of {', '.join(environment.SOLO_DOMAINS)}"
        )
        return
    missing = list(_check_data_folders(config, econfig.domain))
    if missing:
        # without tau2's data, every task would be a problem
        yield from missing
        return
    domains: set[str] = set()
    for option, dataset in datasets_by_option(config).items():
        try:
            domains |= set(count_tasks(config, dataset))
        except ValidationError as error:
            yield f"{option}.dataset_kwargs: {explain_error(error)}"
        except BadTasks as error:
            for problem in error.problems:
                yield f"{option}.path={dataset.path!r}: {problem}"
        except (ValueError, OSError) as error:
            yield f"{option}.path={dataset.path!r}: {explain_error(error)}"
    for domain in sorted(domains - {econfig.domain}):
        yield from _check_data_folders(config, domain)


def datasets_by_option(config: Tau2PPOConfig) -> dict[str, DatasetConfig]:
    """Return the data sets of a config by the names of their options."""
    datasets: dict[str, DatasetConfig] = {"train_dataset": config.train_dataset}
    if config.valid_dataset is not None:
        datasets["valid_dataset"] = config.valid_dataset
    return datasets


def read_tasks(config: Tau2PPOConfig, dataset: DatasetConfig) -> list[TaskRow]:
    """Read the tasks of a data set.

    Raises:
        ValidationError: `dataset_kwargs` is no `TaskFilter`.
        BadTasks: some tasks cannot be played.
        ValueError, OSError: there is no such data set, or no task is left.
    """
    domain = config.econfig.domain
    chosen = TaskFilter(**dataset.dataset_kwargs)
    rows = task_rows(domain, dataset.path, config.econfig.solo_mode, chosen)
    return [find_task_row(row, domain) for row in rows]


def count_tasks(config: Tau2PPOConfig, dataset: DatasetConfig) -> Counter[str]:
    """Count the tasks of a data set by domain; the errors are those of `read_tasks`."""
    return Counter(row.domain for row in read_tasks(config, dataset))


def played_domains(config: Tau2PPOConfig) -> list[str]:
    """List the domains of all tasks; the errors are those of `read_tasks`."""
    domains: dict[str, None] = {}
    for dataset in datasets_by_option(config).values():
        domains |= dict.fromkeys(count_tasks(config, dataset))
    return list(domains)


def is_readable(domain: str) -> bool:
    """Tell whether tau2 has the domain and its data; `check_data` says what is wrong."""
    if domain not in environment.DOMAINS:
        return False
    try:
        environment.toolkits(domain)
    except ValueError:
        return False
    return True


def _check_data_folders(config: Tau2PPOConfig, domain: str) -> Iterator[str]:
    """Yield the folders of tau2's data that lack the domain, and those of workers that differ."""
    problem = data_problem(domain)
    if problem:
        yield problem
        return
    specs = [*config.actor.scheduling_spec, *config.rollout.scheduling_spec]
    folders = {spec.env_vars.get("TAU2_DATA_DIR") for spec in specs}
    for folder in sorted(folder for folder in folders if folder):
        problem = data_problem(domain, folder)
        if problem:
            yield problem
        elif data_digest(domain, folder) != data_digest(domain):
            yield (
                f"TAU2_DATA_DIR={folder} has another {domain} than this command reads; "
                "set TAU2_DATA_DIR to it in the environment of this command, too"
            )
