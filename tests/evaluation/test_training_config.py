"""Training YAMLs, read without Hydra as Hydra reads them."""

from pathlib import Path

import pytest

pytest.importorskip("hydra")

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from examples.tau2.evaluation.training_config import load_yaml, read_training_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted([*ROOT.glob("examples/tau2/*.yaml"), *ROOT.glob("aenv/examples/tau2_rl/*.yaml")])

BASE = """
econfig: {domain: airline, max_steps: 100, timeout: 600}
gconfig: {temperature: 1.0, max_new_tokens: 100}
eval_gconfig: {temperature: 0.6, max_new_tokens: "${gconfig.max_new_tokens}"}
train_dataset: {path: tau2/train}
"""
CONFIG = """
defaults: [base, _self_]
econfig: {max_steps: 50}
gconfig: {max_new_tokens: 200}
"""


def write(folder: Path, **texts: str) -> Path:
    """Write YAMLs by name, and return the path of the last one."""
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return path


def load_with_hydra(path: Path) -> DictConfig:
    # AReaL, which other tests load configs with, leaves Hydra initialized
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(path.parent), version_base=None):
        return compose(config_name=path.name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_of_the_package_are_read_as_by_hydra(path):
    ours, hydras = load_yaml(path), load_with_hydra(path)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(hydras)


def test_a_config_overrides_the_file_that_it_builds_on(tmp_path):
    path = write(tmp_path, base=BASE, config=CONFIG)
    found = read_training_config(path)
    assert found.econfig == {"domain": "airline", "max_steps": 50, "timeout": 600}
    assert found.training_sampling == {"temperature": 1.0, "max_completion_tokens": 200}
    assert found.evaluation_sampling == {"temperature": 0.6, "max_completion_tokens": 200}


@pytest.mark.parametrize(
    "defaults, max_steps",
    [("[base, _self_]", 50), ("[_self_, base]", 100), ("[base]", 50), ("[base, middle]", 50)],
)
def test_defaults_are_merged_in_their_order(tmp_path, defaults, max_steps):
    middle = "econfig: {max_steps: 75}"
    config = CONFIG.replace("[base, _self_]", defaults)
    path = write(tmp_path, base=BASE, middle=middle, config=config)
    assert load_yaml(path).econfig.max_steps == max_steps
    assert load_with_hydra(path).econfig.max_steps == max_steps


def test_a_base_may_build_on_a_base_in_a_folder_of_the_search_path(tmp_path):
    (tmp_path / "bases").mkdir()
    (tmp_path / "configs").mkdir()
    write(tmp_path / "bases", base=BASE, middle="defaults: [base]\neconfig: {timeout: 900}")
    config = f"hydra: {{searchpath: ['file://{tmp_path / 'bases'}']}}\n{CONFIG}"
    path = write(tmp_path / "configs", config=config.replace("[base,", "[middle,"))
    expected = {"domain": "airline", "max_steps": 50, "timeout": 900}
    assert load_yaml(path).econfig == expected
    assert load_with_hydra(path).econfig == expected


def test_a_base_that_is_missing_is_named(tmp_path):
    path = write(tmp_path, config=CONFIG)
    with pytest.raises(ValueError, match="builds on 'base', and .* has no base.yaml"):
        read_training_config(path)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("seed: 1", " has no econfig: it is no config of train.py"),
        ("just words", " has no econfig: it is no config of train.py"),
        ("- seed", ": this is text that is no JSON; a config, .* is wanted"),
        ('{"messages": [], "answer": {}}', ": this is a file of turns; a config, .* is wanted"),
        ("econfig:\n\tdomain: mock", ": line 2: no YAML: found character"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, problem):
    path = write(tmp_path, config=text)
    with pytest.raises(ValueError, match=f"^--config {path}{problem}"):
        read_training_config(path)


@pytest.mark.parametrize(
    "path, problem", [("x.yaml", "no such file"), ("tests", "this is a folder")]
)
def test_a_path_without_a_config_is_named(path, problem):
    with pytest.raises(ValueError, match=f"^--config {path}: {problem}"):
        read_training_config(Path(path))
