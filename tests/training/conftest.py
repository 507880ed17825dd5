"""The airline config, on which checks and more are tested."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.command_line import as_hydra_override
from examples.tau2.utils import Tau2PPOConfig

AIRLINE = "examples/tau2/config_1.7b_airline.yaml"


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("tokenizer")
    untrained_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def airline_argv(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., list[str]]:
    """`airline_argv(*overrides)`: a command line of the airline config, with storage in tmp_path.

    Its user LLM is an address where nothing listens. Its tokenizer is `tokenizer_folder`'s.
    """

    def make_argv(*overrides: str) -> list[str]:
        options = [
            "experiment_name=e",
            "trial_name=t",
            f"cluster.fileroot={tmp_path}",
            f"tokenizer_path={tokenizer_folder}",
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
