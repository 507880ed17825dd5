"""Every config resolves to what its snapshot in `tests/configs/` says, field by field.

After a change on purpose, write the snapshots anew, and commit them with the change:

    .venv/bin/python -m tests.test_config_snapshots config_8b_airline    # this one
    .venv/bin/python -m tests.test_config_snapshots                      # all
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from areal.api.cli_args import load_expr_config, parse_cli_args, to_structured_cfg
from omegaconf import OmegaConf

from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

ROOT = Path(__file__).parents[1]
SNAPSHOTS = Path(__file__).parent / "configs"
FOLDERS = [ROOT / "examples/tau2", ROOT / "aenv/examples/tau2_rl"]
CONFIGS = {path.stem: path for folder in FOLDERS for path in folder.glob("config_*.yaml")}
NAMES = sorted(CONFIGS)

Fields = dict[str, Any]


def config_class(name: str) -> type:
    return Tau2SFTConfig if name.startswith("config_sft_") else Tau2PPOConfig


def resolve(name: str) -> Fields:
    """Every field of a config, by its option, as AReaL's loader resolves it."""
    composed, _ = parse_cli_args(["--config", str(CONFIGS[name])])
    structured = to_structured_cfg(composed, config_class(name))
    fields = flatten(asdict(OmegaConf.to_object(structured)))
    # AReaL fills this in from the environment, and a key belongs in no file
    fields["stats_logger.swanlab.api_key"] = None
    return fields


def flatten(value: Any, option: str = "") -> Fields:
    """The leaves of nested dicts and lists: {"a": [{"b": 1}]} becomes {"a[0].b": 1}."""
    if isinstance(value, dict) and value:
        children = {f"{option}.{key}".removeprefix("."): child for key, child in value.items()}
    elif isinstance(value, list) and value:
        children = {f"{option}[{index}]": child for index, child in enumerate(value)}
    else:
        return {option: value}
    fields = {}
    for child_option, child in children.items():
        fields |= flatten(child, child_option)
    return fields


def differences(snapshot: Fields, resolved: Fields) -> list[str]:
    """A line for each field that differs."""
    lines = []
    for option in sorted({*snapshot, *resolved}):
        before, now = snapshot.get(option, "no such field"), resolved.get(option, "no such field")
        if before != now:
            lines.append(f"{option}: the snapshot has {before!r}, the config {now!r}")
    return lines


def read_snapshot(name: str) -> Fields:
    return json.loads((SNAPSHOTS / f"{name}.json").read_text())


def write_snapshot(name: str) -> None:
    text = json.dumps(resolve(name), indent=1, sort_keys=True)
    (SNAPSHOTS / f"{name}.json").write_text(text + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_resolves_to_its_snapshot(name):
    differing = differences(read_snapshot(name), resolve(name))
    renew = f"If that is on purpose: .venv/bin/python -m tests.test_config_snapshots {name}"
    assert not differing, "\n".join([f"{name} has changed.", *differing, renew])


def test_every_snapshot_has_its_config():
    assert sorted(path.stem for path in SNAPSHOTS.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", ["config_8b_airline", "config_1.7b_telecom", "config_sft_8b"])
def test_the_copy_that_areal_saves_is_complete(name, tmp_path, monkeypatch):
    # AReaL copies this key of the environment into the config
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    places = [f"cluster.fileroot={tmp_path}", f"cluster.name_resolve.nfs_record_root={tmp_path}"]
    config, _ = load_expr_config(
        ["--config", str(CONFIGS[name]), *places, "seed=7"], config_class(name)
    )
    (saved,) = tmp_path.glob("logs/*/*/*/config.yaml")
    fields = flatten(OmegaConf.to_container(OmegaConf.load(saved)))
    assert fields == flatten(asdict(config))
    assert fields["seed"] == 7 and fields["saver.fileroot"] == str(tmp_path)


def test_what_differs_is_named():
    snapshot = flatten({"seed": 1, "actor": {"spec": [{"cpu": 4}]}})
    resolved = flatten({"seed": 1, "actor": {"spec": [{"cpu": 8}], "path": "model"}})
    assert differences(snapshot, resolved) == [
        "actor.path: the snapshot has 'no such field', the config 'model'",
        "actor.spec[0].cpu: the snapshot has 4, the config 8",
    ]


if __name__ == "__main__":
    for given in sys.argv[1:] or NAMES:
        write_snapshot(given)
        print(f"written: {SNAPSHOTS / given}.json")
