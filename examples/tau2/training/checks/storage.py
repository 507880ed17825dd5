"""Checks the names of a run, its folders, and where its model is read."""

import re
from collections.abc import Iterator
from pathlib import Path

from examples.tau2.data.files import expanded_path
from examples.tau2.training.checks.placeholders import is_placeholder, options_by_text
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

# `~/` or `~name/` at the beginning of a path, of which a list like PYTHONPATH has several
_HOME_FOLDER = re.compile(r"(?<![^:])~[\w.-]*(?=/)")


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
        is_local = model.startswith(("/", "."))
        if not model:
            yield f"{option} is not set; give a model folder or a name on the model hub"
        elif is_local and not is_placeholder(model) and not Path(model).is_dir():
            yield f"{option}={model} is no folder"
    for path, option in options_by_text(config).items():
        # the data sets are read by this project, which expands `~`
        if _HOME_FOLDER.search(path) and not option.endswith("_dataset.path"):
            full = _HOME_FOLDER.sub(lambda home: str(expanded_path(home[0])), path)
            yield f"{option}={path}: AReaL takes ~ for the name of a folder; write {full}"


def output_folders(config: Tau2PPOConfig | Tau2SFTConfig) -> dict[str, str]:
    """Return the folders that a run writes to by the names of their options."""
    cluster = config.cluster
    return {
        "cluster.fileroot": cluster.fileroot,
        "cluster.name_resolve.nfs_record_root": cluster.name_resolve.nfs_record_root,
    }
