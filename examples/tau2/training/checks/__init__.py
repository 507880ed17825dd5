"""Finds everything that is wrong with a config before a run is launched.

A problem is one sentence that names the option and says what to do. The modules of this package:
`loading` makes a config of a command line. `summary` writes the table of `--check`. Each other
module checks one topic and yields its problems; `probes`, `template` and `parsers` yield those
that only a try can show.
"""

from collections.abc import Callable, Iterator

from examples.tau2.training.checks.advantages import check_advantages
from examples.tau2.training.checks.allocation import check_allocation
from examples.tau2.training.checks.data import check_data
from examples.tau2.training.checks.judge import check_judge
from examples.tau2.training.checks.keys import check_keys
from examples.tau2.training.checks.parsers import probe_tool_call_parser
from examples.tau2.training.checks.placeholders import check_placeholders
from examples.tau2.training.checks.probes import (
    probe_judge_llm,
    probe_output_folders,
    probe_reward_function,
    probe_user_llm,
    probe_wandb_login,
)
from examples.tau2.training.checks.ranges import check_ranges
from examples.tau2.training.checks.recovery import check_recovery
from examples.tau2.training.checks.rollout import check_rollout
from examples.tau2.training.checks.sampling import check_sampling
from examples.tau2.training.checks.scheduler import check_scheduler
from examples.tau2.training.checks.storage import check_storage
from examples.tau2.training.checks.template import probe_template
from examples.tau2.training.checks.token_limits import check_token_limits
from examples.tau2.training.checks.user_simulator import check_user_simulator
from examples.tau2.training.checks.variables import check_variables
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

CHECKS: tuple[Callable[[Tau2PPOConfig], Iterator[str]], ...] = (
    check_variables,
    check_data,
    check_ranges,
    check_sampling,
    check_advantages,
    check_token_limits,
    check_allocation,
    check_placeholders,
    check_storage,
    check_scheduler,
    check_rollout,
    check_keys,
    check_recovery,
    check_user_simulator,
    check_judge,
)
PROBES: tuple[Callable[[Tau2PPOConfig], Iterator[str]], ...] = (
    probe_output_folders,
    probe_template,
    probe_tool_call_parser,
    probe_reward_function,
    probe_wandb_login,
    probe_user_llm,
    probe_judge_llm,
)

SUPERVISED_CHECKS: tuple[Callable[[Tau2SFTConfig], Iterator[str]], ...] = (
    check_variables,
    check_ranges,
    check_scheduler,
    check_allocation,
    check_placeholders,
    check_storage,
    check_keys,
    check_recovery,
)
SUPERVISED_PROBES: tuple[Callable[[Tau2SFTConfig], Iterator[str]], ...] = (probe_output_folders,)


def find_problems(config: Tau2PPOConfig) -> list[str]:
    """Return the problems of a training config: those of all checks, then those of all probes."""
    problems: list[str] = []
    for check in (*CHECKS, *PROBES):
        problems += check(config)
    return problems


def find_supervised_problems(config: Tau2SFTConfig) -> list[str]:
    """Return the problems of a fine-tuning config; `supervised` finds those of its data."""
    problems: list[str] = []
    for check in (*SUPERVISED_CHECKS, *SUPERVISED_PROBES):
        problems += check(config)
    return problems
