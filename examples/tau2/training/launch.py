"""Turns a command line into a run, for `train.py` and `sft.py`.

A supervisor ends all processes of a run with the run. The config is checked before anything is
launched.
"""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from examples.tau2 import quiet_tau2
from examples.tau2.training.supervisor import supervise

if TYPE_CHECKING:
    from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

Config = TypeVar("Config", bound="Tau2PPOConfig | Tau2SFTConfig")


class ConfigError(ValueError):
    """A config that cannot be run; `problems` has one sentence for each mistake."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class PreparedRun:
    """A run whose config has no problems.

    `summary` is printed before the run. `timeout` is the deadline in seconds, or None. `run` does
    the work.
    """

    summary: str
    timeout: float | None
    run: Callable[[], None]


def launch(argv: list[str], doc: str, prepare: Callable[[list[str]], PreparedRun]) -> int:
    """Run what `prepare` makes of the options; with `--check`, only print its summary.

    `prepare` raises `ConfigError` if it finds problems. The exit status is 0 if the run is done,
    2 if nothing was launched because of the config, 124 if the deadline of the run passed, and
    another number if the run failed. Call this before the process has threads.
    """
    # AReaL starts its workers with a bare `python3`, which must be this Python
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return supervise(lambda set_deadline: prepare_and_run(argv, doc, prepare, set_deadline))


def prepare_and_run(
    argv: list[str],
    doc: str,
    prepare: Callable[[list[str]], PreparedRun],
    set_deadline: Callable[[float], None],
) -> int:
    """Prepare a run and do it in this process; return the exit status.

    `set_deadline` is called with the timeout of the run in seconds.
    """
    if "-h" in argv or "--help" in argv:
        print(doc)
        return 0
    quiet_tau2()
    from examples.tau2.training.command_line import read_command_line

    arguments, problems = read_command_line(argv)
    try:
        if problems:
            raise ConfigError(problems)
        prepared = prepare(arguments)
    except ConfigError as error:
        print("Nothing was launched:", file=sys.stderr)
        for problem in error.problems:
            print(f"  - {problem}", file=sys.stderr)
        return 2
    warn_of_untested_areal()
    print(prepared.summary, flush=True)
    if "--check" in argv:
        return 0
    if prepared.timeout:
        set_deadline(prepared.timeout)
    prepared.run()
    return 0


def warn_of_untested_areal() -> None:
    """Print one warning if this project was never run with the AReaL that is installed."""
    import areal

    from examples.tau2.training.areal import installed_commit, version_warning

    warning = version_warning(areal.__version__, installed_commit())
    if warning:
        print(f"Warning: {warning}", file=sys.stderr)


def start_run(argv: list[str], config_class: type[Config]) -> tuple[Config, Path]:
    """Load the config as AReaL does, and return it with the folder of the run's logs.

    AReaL leaves a copy of the config in that folder.
    """
    from areal.api.cli_args import load_expr_config
    from areal.utils.network import gethostip
    from areal.utils.stats_logger import StatsLogger

    from examples.tau2.episode.network import exempt_from_proxies
    from examples.tau2.training.areal.hosts import use_loopback_without_network

    use_loopback_without_network()
    # AReaL would write this key into the copy
    swanlab_key = os.environ.pop("SWANLAB_API_KEY", None)
    config, _ = load_expr_config(argv, config_class)
    if swanlab_key:
        os.environ["SWANLAB_API_KEY"] = swanlab_key
    # AReaL has wandb log in before it tells wandb the mode
    if config.stats_logger.wandb.mode != "disabled":
        os.environ["WANDB_MODE"] = config.stats_logger.wandb.mode
    # AReaL's processes would send each other's requests to the site's proxy
    exempt_from_proxies(["localhost", "127.0.0.1", "::1", socket.gethostname(), gethostip()])
    # AReaL expects this folder
    Path(config.cluster.name_resolve.nfs_record_root).mkdir(parents=True, exist_ok=True)
    return config, Path(StatsLogger.get_log_path(config.stats_logger))
