"""Reads the parts of a training YAML that an evaluation needs, without AReaL or Hydra."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from examples.tau2.data.files import config_problem
from examples.tau2.episode.config import Tau2EnvConfig

# AReaL's names of the sampling options, and those of OpenAI's API
SAMPLING_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_new_tokens": "max_completion_tokens",
}


@dataclass(frozen=True)
class TrainingConfig:
    """The parts of a training YAML that an evaluation uses.

    `econfig` has the fields of `Tau2EnvConfig` that the YAML sets. `dataset` and `dataset_kwargs`
    are the path of its `train_dataset`, and the choice among its tasks. `evaluation_sampling` and
    `training_sampling` are its `eval_gconfig` and `gconfig`, by OpenAI's names of the options.
    """

    econfig: dict[str, Any]
    dataset: str | None
    dataset_kwargs: dict[str, Any]
    evaluation_sampling: dict[str, float]
    training_sampling: dict[str, float]


def read_training_config(path: Path) -> TrainingConfig:
    """Read a training YAML, and the files that it builds on.

    Raises:
        ValueError: the file cannot be read, is not a config of train.py, or a file that it builds
            on is missing.
    """
    config = load_yaml(path)
    if "econfig" not in config:
        raise ValueError(f"--config {path} has no econfig: it is no config of train.py")
    known = {field.name for field in fields(Tau2EnvConfig)}
    econfig = _section(config, "econfig")
    dataset = _section(config, "train_dataset")
    return TrainingConfig(
        econfig={name: value for name, value in econfig.items() if name in known},
        dataset=dataset.get("path"),
        dataset_kwargs=dataset.get("dataset_kwargs") or {},
        evaluation_sampling=_sampling(_section(config, "eval_gconfig")),
        training_sampling=_sampling(_section(config, "gconfig")),
    )


def load_yaml(path: Path) -> DictConfig:
    """Load a YAML, merged with the files of its `defaults` list as Hydra merges them.

    A later entry of the list overrides an earlier one. `_self_` stands for the file itself; without
    it, the file comes last. The named files are looked for in the folder of `path`, and then in the
    folders that `hydra.searchpath` of `path` names (`file://...`).

    Raises:
        ValueError: the file cannot be read, is not a mapping, or a file that it builds on is
            missing.
    """
    config = _load_mapping(path)
    search_path = OmegaConf.select(config, "hydra.searchpath") or []
    folders = [Path(entry.removeprefix("file://")) for entry in search_path]
    return _with_defaults(path, [path.parent, *folders])


def _with_defaults(path: Path, folders: Sequence[Path]) -> DictConfig:
    config = _load_mapping(path)
    defaults = list(config.pop("defaults", []))
    config.pop("hydra", None)
    if "_self_" not in defaults:
        defaults.append("_self_")
    merged = OmegaConf.create()
    for name in defaults:
        if name == "_self_":
            merged.merge_with(config)
        else:
            base = _find_base(path, name, folders)
            merged.merge_with(_with_defaults(base, folders))
    return merged


def _find_base(path: Path, name: object, folders: Sequence[Path]) -> Path:
    """Find the YAML that an entry of the `defaults` list of `path` names."""
    for folder in folders:
        found = folder / f"{name}.yaml"
        if found.is_file():
            return found
    looked_in = ", ".join(str(folder) for folder in folders)
    raise ValueError(f"--config {path} builds on {name!r}, and {looked_in} has no {name}.yaml")


def _load_mapping(path: Path) -> DictConfig:
    problem = config_problem(path)
    if problem:
        raise ValueError(f"--config {path}: {problem}")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config


def _section(config: DictConfig, name: str) -> dict[str, Any]:
    """Read a section as plain data; it is empty if the config does not have it."""
    section = config.get(name)
    if not isinstance(section, DictConfig):
        return {}
    values = OmegaConf.to_container(section, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _sampling(section: dict[str, Any]) -> dict[str, float]:
    return {
        openai_name: section[areal_name]
        for areal_name, openai_name in SAMPLING_NAMES.items()
        if areal_name in section
    }
