"""The airline config, on which the checks are tested."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.launch import as_hydra_override
from examples.tau2.utils import Tau2PPOConfig

AIRLINE = "examples/tau2/config_1.7b_airline.yaml"


@pytest.fixture
def airline_argv(tmp_path: Path) -> Callable[..., list[str]]:
    """`airline_argv(*overrides)`: a command line of the airline config, with storage in tmp_path.

    Its user LLM is an address where nothing listens.
    """

    def make_argv(*overrides: str) -> list[str]:
        options = [
            "experiment_name=e",
            "trial_name=t",
            f"cluster.fileroot={tmp_path}",
            "econfig.user_llm_base_url=http://127.0.0.1:9/v1",
            *overrides,
        ]
        return ["--config", AIRLINE, *map(as_hydra_override, options)]

    return make_argv


@pytest.fixture
def airline(airline_argv: Callable[..., list[str]]) -> Callable[..., Tau2PPOConfig]:
    """`airline(*overrides)`: the airline config; its options must load without a problem."""

    def load(*overrides: str) -> Tau2PPOConfig:
        config, problems = load_config(airline_argv(*overrides), Tau2PPOConfig)
        assert problems == []
        return config

    return load
