"""Checks the names of a run, its folders, and where its model is read."""

from collections.abc import Iterator
from pathlib import Path

from examples.tau2.training.checks.placeholders import is_placeholder
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_storage(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield names and folders that are not valid, and model folders that do not exist."""
    names = {"experiment_name": config.experiment_name, "trial_name": config.trial_name}
    for option, name in names.items():
        if not name or "/" in name:
            yield f"{option}={name} must not be empty or contain '/'"
    for option, folder in output_folders(config).items():
        if not folder:
            yield f"{option} is empty; name a folder"
    models = {"actor.path": config.actor.path, "tokenizer_path": config.tokenizer_path}
    for option, model in models.items():
        is_local = model.startswith(("/", ".", "~"))
        if not model:
            yield f"{option} is not set; give a model folder or a name on the model hub"
        elif is_local and not is_placeholder(model) and not Path(model).is_dir():
            yield f"{option}={model} is no folder"


def output_folders(config: Tau2PPOConfig | Tau2SFTConfig) -> dict[str, str]:
    """Return the folders that a run writes to by the names of their options."""
    cluster = config.cluster
    return {
        "cluster.fileroot": cluster.fileroot,
        "cluster.name_resolve.nfs_record_root": cluster.name_resolve.nfs_record_root,
    }
