"""Writes the table that `--check` prints: what a run with this config does."""

from examples.tau2.data.wrong_gold import REMEDY, wrong_gold
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.training.checks.data import (
    DatasetConfig,
    count_tasks,
    datasets_by_option,
    played_domains,
    read_tasks,
)
from examples.tau2.training.checks.judge import tasks_to_judge
from examples.tau2.training.samples import Sample, SupervisedData
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def summarize(config: Tau2PPOConfig) -> str:
    """Return the table of a training config without problems."""
    econfig, cluster = config.econfig, config.cluster
    domains = played_domains(config)
    mode = "solo"
    if not econfig.solo_mode:
        server = econfig.user_llm_base_url or "litellm"
        mode = f"user simulator {econfig.user_llm or 'default'} at {server}"
    episodes = config.gconfig.n_samples
    training = f"{_describe_tasks(config, config.train_dataset)} x {episodes} episodes"
    if config.baseline:
        training += f", baseline {config.baseline}"
    if config.group_filter:
        training += ", groups that teach nothing dropped"
    validation = "none"
    if config.valid_dataset:
        episodes = (config.eval_gconfig or config.gconfig).n_samples
        validation = f"{_describe_tasks(config, config.valid_dataset)} x {episodes} episodes"
    late = "rejected" if econfig.reject_on_timeout else "scored 0"
    rows = {
        "domain": f"{', '.join(domains)} ({mode})",
        "training": training,
        "validation": validation,
        "episode": (
            f"at most {econfig.max_steps} steps and {econfig.timeout:g} s, {late} at the deadline"
        ),
        **_describe_judge(config),
        "allocation": (
            f"{config.rollout.backend} + {config.actor.backend} on {cluster.n_nodes} x "
            f"{cluster.n_gpus_per_node} GPUs, {config.scheduler.type} scheduler"
        ),
        "tau2": str(tau2_source(domains)),
    }
    wrong = _describe_wrong_gold(config)
    if wrong:
        rows["wrong gold"] = wrong
    return _table(config, rows)


def summarize_supervised(config: Tau2SFTConfig, data: SupervisedData) -> str:
    """Return the table of a fine-tuning config without problems."""
    cluster, batch_size = config.cluster, config.train_dataset.batch_size
    validation = "none"
    if config.valid_dataset and data.valid:
        validation = _describe_turns(config.valid_dataset, data.valid)
    rows = {
        "training": f"{_describe_turns(config.train_dataset, data.train)}; {batch_size} a batch",
        "validation": validation,
        "allocation": (
            f"{config.actor.backend} on {cluster.n_nodes} x {cluster.n_gpus_per_node} GPUs, "
            f"{config.scheduler.type} scheduler"
        ),
    }
    return _table(config, rows)


def _describe_tasks(config: Tau2PPOConfig, dataset: DatasetConfig) -> str:
    """Return the number of tasks of a data set, by domain if it has several."""
    numbers = count_tasks(config, dataset)
    tasks = f"{numbers.total()} tasks"
    if len(numbers) > 1:
        by_domain = [f"{domain} {number}" for domain, number in numbers.items()]
        tasks += f" ({', '.join(by_domain)})"
    return f"{dataset.path}: {tasks}, {dataset.batch_size} a batch"


def _describe_wrong_gold(config: Tau2PPOConfig) -> str:
    """Name the tasks whose gold is known to be wrong, by data set, and say what to do about them.

    The text is empty if there are none.
    """
    found = [
        f"{dataset.path}: {tasks}"
        for dataset in datasets_by_option(config).values()
        if (tasks := wrong_gold(read_tasks(config, dataset)))
    ]
    if not found:
        return ""
    return f"{', '.join(found)}; {REMEDY}, or leave the tasks out by dataset_kwargs.exclude"


def _describe_judge(config: Tau2PPOConfig) -> dict[str, str]:
    """Return the row that names the judge and the numbers of its tasks, if there are any."""
    tasks = tasks_to_judge(config)
    if not tasks:
        return {}
    server = config.econfig.judge_llm_base_url or "litellm"
    numbers = " and ".join(f"{len(ids)} tasks of {option}" for option, ids in tasks.items())
    return {"judge": f"{config.econfig.judge_llm or 'default'} at {server}, for {numbers}"}


def _describe_turns(dataset: DatasetConfig, samples: list[Sample]) -> str:
    """Return the number of turns of a data set, and of their tokens."""
    tokens = sum(len(sample["input_ids"]) for sample in samples)
    learnt = sum(int(sample["loss_mask"].sum()) for sample in samples)
    return f"{dataset.path}: {len(samples)} turns, {tokens} tokens, {learnt} of them answers"


def _table(config: Tau2PPOConfig | Tau2SFTConfig, rows: dict[str, str]) -> str:
    """Return a table of the rows, and of those that training and fine-tuning have in common."""
    length = f"{config.total_train_epochs} epochs"
    if config.total_train_steps:
        length += f", at most {config.total_train_steps} steps"
    rows = {
        "experiment": f"{config.experiment_name} / {config.trial_name}",
        "model": config.actor.path,
        **rows,
        "length": length,
        "output": config.cluster.fileroot,
    }
    if config.scheduler.type == "slurm":
        rows["queue"] = "`squeue --me` shows which jobs wait for nodes"
    return "\n".join(f"{title:>12}  {text}" for title, text in rows.items())
