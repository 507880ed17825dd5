r"""Train a customer-service agent on tau2-bench with AReaL.

    python3 examples/tau2/train.py --config examples/tau2/config_cpu.yaml \
        experiment_name=demo trial_name=first

`option=value` overrides any field of the config. `--check` checks the config, prints a summary of
the run, and launches nothing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # import from the repository's root, here and in AReaL's workers, which inherit this path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.tau2.training.launch import ConfigError, PreparedRun, launch, start_run

if TYPE_CHECKING:
    from areal.api.cli_args import GenerationHyperparameters
    from datasets import Dataset

    from examples.tau2.utils import Tau2PPOConfig

WORKFLOW = "examples.tau2.agent.Tau2AgentWorkflow"
REWARD_FN_WORKFLOW = "aenv.examples.tau2_rl.workflow.RewardFnWorkflow"
GROUP_FILTER = "examples.tau2.training.groups.has_advantages"
NO_FILTER = "examples.tau2.training.groups.accept_all"
TRACKER = "examples.tau2.training.tracker.ArealTracker"


def prepare(argv: list[str]) -> PreparedRun:
    """Check the options, and return the run that trains with them.

    Raises:
        ConfigError: the config has problems; the error lists all of them.
    """
    from examples.tau2.training.checks import find_problems
    from examples.tau2.training.checks.loading import load_config
    from examples.tau2.training.checks.summary import summarize
    from examples.tau2.training.pinned_data import pin_data_sets
    from examples.tau2.utils import Tau2PPOConfig

    config, problems = load_config(argv, Tau2PPOConfig)
    argv = [*argv, *pin_data_sets(config)]
    problems += find_problems(config)
    if problems:
        raise ConfigError(problems)
    return PreparedRun(summarize(config), config.run_timeout, lambda: train(argv))


def train(argv: list[str]) -> None:
    """Train the agent, and print where the results are."""
    from areal.utils.dynamic_import import import_from_string

    from examples.tau2.episode.tau2_data import tau2_source
    from examples.tau2.training.checks.data import played_domains
    from examples.tau2.training.console import print_results, redirect_output, report_steps
    from examples.tau2.training.trainer import Tau2PPOTrainer
    from examples.tau2.utils import Tau2PPOConfig, silence_costs

    silence_costs()
    config, folder = start_run(argv, Tau2PPOConfig)
    with (folder / "config.yaml").open("a") as saved:
        saved.write(f"# tau2: {tau2_source(played_domains(config))}\n")
    trajectories = folder / "generated"
    train_dataset, valid_dataset = load_datasets(config)
    workflow = REWARD_FN_WORKFLOW if config.reward_fn_path else WORKFLOW
    arguments = workflow_arguments(config, config.gconfig, trajectories)
    eval_sampling = config.eval_gconfig or config.gconfig
    eval_arguments = workflow_arguments(config, eval_sampling, trajectories)
    with redirect_output(folder / "console.log" if config.quiet else None) as terminal:
        # a workflow that cannot be made fails here once, and not in every worker
        import_from_string(workflow)(**arguments)
        print("starting the trainer and the inference servers ...", file=terminal)
        with Tau2PPOTrainer(
            config, train_dataset=train_dataset, valid_dataset=valid_dataset
        ) as trainer:
            trainer.forget_later_episodes(trajectories)
            report_steps(trainer, folder, terminal)
            trainer.train(
                workflow=workflow,
                workflow_kwargs=arguments,
                eval_workflow=workflow,
                eval_workflow_kwargs=eval_arguments,
                dynamic_filter_fn=GROUP_FILTER if config.group_filter else NO_FILTER,
            )
        print_results(config, folder, terminal)


def load_datasets(config: "Tau2PPOConfig") -> tuple["Dataset", "Dataset | None"]:
    """Load the tasks to train on, in full batches, and those to validate on, if there are any."""
    from examples.tau2.data.dataset import tau2_dataset

    econfig, training, validation = config.econfig, config.train_dataset, config.valid_dataset
    train_dataset = tau2_dataset(
        econfig.domain,
        training.path,
        econfig.solo_mode,
        training.batch_size,
        **training.dataset_kwargs,
    )
    if validation is None:
        return train_dataset, None
    valid_dataset = tau2_dataset(
        econfig.domain, validation.path, econfig.solo_mode, **validation.dataset_kwargs
    )
    return train_dataset, valid_dataset


def workflow_arguments(
    config: "Tau2PPOConfig", sampling: "GenerationHyperparameters", trajectories: Path
) -> dict[str, Any]:
    """Return the arguments of the workflow, with those of each chat completion of the agent.

    The workflow writes its trajectories to the folder `trajectories`.
    """
    from dataclasses import asdict

    from examples.tau2.data.dataset import absolute_path

    completion_args = sampling.to_openai_completions_args_dict(exclude_args=["n_samples"])
    arguments: dict[str, Any] = {
        "econfig": asdict(config.econfig),
        "gen_args": {key: value for key, value in completion_args.items() if value is not None},
        "output_dir": str(trajectories),
    }
    if config.reward_fn_path:
        arguments["reward_fn_path"] = config.reward_fn_path
    else:
        datasets = [dataset for dataset in (config.train_dataset, config.valid_dataset) if dataset]
        arguments["datasets"] = [
            (absolute_path(dataset.path), dataset.dataset_kwargs) for dataset in datasets
        ]
        arguments["tracker"] = TRACKER
    return arguments


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:], __doc__, prepare))
