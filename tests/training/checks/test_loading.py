"""A command line becomes a config, and wrong options become problems."""

from pathlib import Path

import pytest

from examples.tau2.training.checks.loading import first_line, load_config
from examples.tau2.training.launch import ConfigError
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig
from tests.training.conftest import AIRLINE


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("nowhere.yaml", None, "no such file or directory"),
        ("tests", None, "this is a folder; a config"),
        ("x.json", '{"messages": [], "answer": 1}', "this is a file of turns; a config"),
        ("x.yml", "seed: 1", "its name must end with .yaml"),
        ("x.yaml", "actor:\n\tpath: x", "line 2: no YAML: found character"),
        ("x.yaml", "- 1", "this is text that is no JSON; a config"),
    ],
)
def test_a_config_that_cannot_be_read(tmp_path, name, text, problem):
    path = tmp_path / name if text else Path(name)
    if text:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"^--config {path}: {problem}"):
        load_config(["--config", str(path)], Tau2PPOConfig)


def test_a_base_that_cannot_be_read(tmp_path):
    (tmp_path / "base.yaml").write_text("actor: 1\nactor: 2")
    path = tmp_path / "config.yaml"
    path.write_text("defaults: [base, _self_]\nseed: 1")
    with pytest.raises(
        ConfigError, match="that --config .* builds on: line 2: no YAML: found duplicate key actor"
    ):
        load_config(["--config", str(path)], Tau2PPOConfig)


def test_an_override_that_cannot_be_read():
    with pytest.raises(ConfigError, match=f"^--config {AIRLINE} or an override: mismatched"):
        load_config(["--config", AIRLINE, "a=b=[c"], Tau2PPOConfig)


def test_a_wrong_option_is_left_out(airline_argv):
    argv = airline_argv("econfig.max_steps=many", "econfig.timeout=7", "nonsense.a.b=1")
    config, problems = load_config(argv, Tau2PPOConfig)
    assert [problem.split(": ")[0] for problem in problems] == ["econfig.max_steps", "nonsense.a.b"]
    assert config.econfig.timeout == 7 and config.econfig.max_steps == 100


def test_a_missing_option_is_unset(airline_argv):
    config, problems = load_config(airline_argv("trial_name=???"), Tau2PPOConfig)
    assert problems == ["trial_name is not set; add trial_name=... to the command line"]
    assert config.trial_name == "unset"


def test_an_option_of_another_config_is_wrong():
    argv = ["--config", "examples/tau2/config_sft_cpu.yaml", "++econfig.max_steps=3"]
    (problem,) = load_config(argv, Tau2SFTConfig)[1]
    assert problem.startswith("econfig.max_steps: ")


def test_contradicting_turn_discounts(airline_argv):
    argv = airline_argv("econfig.turn_discount=0.9")
    config, problems = load_config(argv, Tau2PPOConfig)
    assert config.rollout.agent.turn_discount == 0.9 and problems == []
    argv.append("++rollout.agent.turn_discount=1.0")
    config, (problem,) = load_config(argv, Tau2PPOConfig)
    assert "rollout.agent.turn_discount=1.0 contradicts econfig.turn_discount=0.9" in problem
    assert config.rollout.agent.turn_discount == 0.9


@pytest.mark.parametrize(
    "message, line", [("\n  \nfirst\nsecond", "first"), ("", "ValueError"), ("\n", "ValueError")]
)
def test_the_first_line_of_an_error(message, line):
    assert first_line(ValueError(message)) == line
