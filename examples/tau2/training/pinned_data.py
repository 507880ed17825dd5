"""Names the data sets of a run that are on the Hugging Face hub by their commits."""

import getpass
from pathlib import Path

# pyrefly: ignore [untyped-import]
import yaml

from examples.tau2.data.hub import HubError, is_hub_file, pinned
from examples.tau2.training.command_line import as_hydra_override
from examples.tau2.training.launch import ConfigError
from examples.tau2.training.recovery import recovery_is_on
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def pin_data_sets(config: Tau2PPOConfig | Tau2SFTConfig) -> list[str]:
    """Put commits into the URLs of a config's data sets, and return the URLs as overrides.

    A run that can resume keeps the commits of its saved config, unless another commit is named.

    Raises:
        ConfigError: the hub does not give a data set.
    """
    saved = _saved_config(config) if recovery_is_on(config.recover) else {}
    overrides, problems = [], []
    for option in ("train_dataset", "valid_dataset"):
        dataset = getattr(config, option)
        if dataset is None or not is_hub_file(dataset.path):
            continue
        earlier = (saved.get(option) or {}).get("path", "")
        try:
            dataset.path = pinned(dataset.path, earlier)
        except HubError as error:
            problems.append(f"{option}.path={dataset.path}: {error}")
        overrides.append(as_hydra_override(f"{option}.path={dataset.path}"))
    if problems:
        raise ConfigError(problems)
    return overrides


def _saved_config(config: Tau2PPOConfig | Tau2SFTConfig) -> dict:
    """Read the config that AReaL saved when the run began; {} if it has not begun."""
    logs = config.stats_logger
    folder = Path(logs.fileroot, "logs", getpass.getuser(), logs.experiment_name, logs.trial_name)
    try:
        return yaml.safe_load((folder / "config.yaml").read_text()) or {}
    except (OSError, yaml.YAMLError):
        return {}
