r"""Fine-tune a model on turns of solved dialogs, with AReaL's supervised trainer.

    python3 examples/tau2/sft.py --config examples/tau2/config_sft_cpu.yaml \
        experiment_name=demo trial_name=sft

`train.py` can train the model further. The prompts are those that AReaL's proxy makes of the same
conversations. The loss is computed on what the assistant says. `data/turns.py` describes the format
of the data, and `expert.py` writes such data. `option=value` overrides any field of the config.
`--check` checks the config and every turn, prints a summary, and launches nothing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    # import from the repository's root, here and in AReaL's workers, which inherit this path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.tau2.training.launch import ConfigError, PreparedRun, launch, start_run

if TYPE_CHECKING:
    from examples.tau2.training.samples import SupervisedData


def prepare(argv: list[str]) -> PreparedRun:
    """Check the options, load the data, and return the run that trains on them.

    Raises:
        ConfigError: the config or the data have problems; the error lists all of them.
    """
    from examples.tau2.training.checks import find_supervised_problems
    from examples.tau2.training.checks.loading import load_config
    from examples.tau2.training.checks.summary import summarize_supervised
    from examples.tau2.training.checks.supervised import (
        check_last_step_is_saved,
        load_supervised_data,
    )
    from examples.tau2.training.pinned_data import pin_data_sets
    from examples.tau2.utils import Tau2SFTConfig

    config, problems = load_config(argv, Tau2SFTConfig)
    argv = [*argv, *pin_data_sets(config)]
    problems += find_supervised_problems(config)
    data, data_problems = load_supervised_data(config)
    problems += data_problems
    # the number of steps follows from a valid config and all of the data
    if not problems:
        problems += check_last_step_is_saved(config, len(data.train))
    if problems:
        raise ConfigError(problems)
    summary = summarize_supervised(config, data)
    return PreparedRun(summary, config.run_timeout, lambda: train(argv, data))


def train(argv: list[str], data: "SupervisedData") -> None:
    """Train a model on the data, and print where the results are."""
    from examples.tau2.training.console import print_results, redirect_output, report_steps
    from examples.tau2.training.trainer import Tau2SFTTrainer
    from examples.tau2.utils import Tau2SFTConfig

    config, folder = start_run(argv, Tau2SFTConfig)
    with redirect_output(folder / "console.log" if config.quiet else None) as terminal:
        print("starting the trainer ...", file=terminal)
        with Tau2SFTTrainer(config, train_dataset=data.train, valid_dataset=data.valid) as trainer:
            report_steps(trainer, folder, terminal)
            trainer.train()
        print_results(config, folder, terminal)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:], __doc__, prepare))
