"""Train a customer-service agent on tau2-bench with AReaL.

    python3 examples/tau2/train.py --config examples/tau2/config_cpu.yaml experiment_name=demo trial_name=first

`option=value` overrides any field of the config. `--check` looks over the plan, prints it, and launches nothing.
"""

import sys
from pathlib import Path

if (
    __name__ == "__main__"
):  # import from the repository's root, here and in AReaL's workers, which inherit this path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.tau2.training.launch import (
    ConfigError,
    Job,
    console,
    launch,
    start,
    tell_results,
    watch,
)

WORKFLOW = "examples.tau2.agent.Tau2AgentWorkflow"
REWARD_FN_WORKFLOW = "aenv.examples.tau2_rl.workflow.RewardFnWorkflow"
GROUP_FILTER = "examples.tau2.agent.has_mixed_rewards"


def check(argv: list[str]) -> Job:
    """
    Raises:
        ConfigError: with all that is wrong.
    """
    from examples.tau2.training.plan import load_plan, problems, summary
    from examples.tau2.utils import Tau2PPOConfig

    plan, found = load_plan(argv, Tau2PPOConfig)
    if found := [*found, *problems(plan)]:
        raise ConfigError(found)
    return Job(summary(plan), plan.run_timeout, lambda: train(argv))


def train(argv: list[str]) -> None:
    """Run AReaL's trainer from its config to its end."""
    from dataclasses import asdict

    from areal.api.cli_args import GenerationHyperparameters
    from areal.utils.dynamic_import import import_from_string

    from examples.tau2.data.dataset import absolute_path, tau2_dataset
    from examples.tau2.training.trainer import Tau2PPOTrainer
    from examples.tau2.utils import Tau2PPOConfig

    config, folder = start(argv, Tau2PPOConfig)
    econfig, train_set, valid_set = config.econfig, config.train_dataset, config.valid_dataset
    if config.reward_fn_path:
        path, special = REWARD_FN_WORKFLOW, {"reward_fn_path": config.reward_fn_path}
    else:
        datasets = [
            (absolute_path(dataset.path), dataset.dataset_kwargs)
            for dataset in (train_set, valid_set)
            if dataset
        ]
        path, special = WORKFLOW, {"datasets": datasets}

    def workflow(sampling: GenerationHyperparameters) -> dict:
        arguments = sampling.to_openai_completions_args_dict(exclude_args=["n_samples"])
        return {
            "econfig": asdict(econfig),
            "gen_args": {key: value for key, value in arguments.items() if value is not None},
            "output_dir": str(folder / "generated"),
            **special,
        }

    train_dataset = tau2_dataset(
        econfig.domain,
        train_set.path,
        econfig.solo_mode,
        train_set.batch_size,
        **train_set.dataset_kwargs,
    )
    valid_dataset = valid_set and tau2_dataset(
        econfig.domain, valid_set.path, econfig.solo_mode, **valid_set.dataset_kwargs
    )
    with console(folder / "console.log" if config.quiet else None) as terminal:
        import_from_string(path)(
            **workflow(config.gconfig)
        )  # what would fail in every worker fails here
        print("starting the trainer and the inference servers ...", file=terminal)
        with Tau2PPOTrainer(
            config, train_dataset=train_dataset, valid_dataset=valid_dataset
        ) as trainer:
            trainer.forget_later_episodes(folder / "generated")
            watch(trainer, folder, terminal)
            trainer.train(
                workflow=path,
                workflow_kwargs=workflow(config.gconfig),
                eval_workflow=path,
                eval_workflow_kwargs=workflow(config.eval_gconfig),
                dynamic_filter_fn=GROUP_FILTER if config.group_filter else None,
            )
        tell_results(config, folder, terminal)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:], __doc__, check))
