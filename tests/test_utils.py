"""The specified options and their effects, and imports that change no other library."""

import json
import subprocess
import sys

import litellm
import pytest
import tau2.utils.llm_utils

from examples.tau2 import utils
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.utils import Tau2EnvConfig, Tau2PPOConfig, silence_costs


def test_the_record_of_an_episode_has_its_specified_place():
    assert utils.Tau2RunInfo is Tau2RunInfo


def test_defaults_are_the_specified():
    config = Tau2EnvConfig()
    assert (config.domain, config.max_steps, config.add_thinking_tool, config.solo_mode) == (
        "telecom",
        100,
        False,
        False,
    )
    assert (config.user_llm_base_url, config.user_llm, config.user_llm_args) == (None, None, None)
    assert (config.turn_discount, config.invalid_format_penalty, config.timeout) == (
        1.0,
        0.1,
        600.0,
    )


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_turn_discount_reaches_areals_proxy(discount):
    config = Tau2PPOConfig(
        experiment_name="e", trial_name="t", econfig=Tau2EnvConfig(turn_discount=discount)
    )
    assert config.rollout.agent.turn_discount == discount


def test_cost_is_silent_and_zero_for_self_hosted_models(capfd, monkeypatch):
    monkeypatch.setattr(
        tau2.utils.llm_utils, "get_response_cost", tau2.utils.llm_utils.get_response_cost
    )
    silence_costs()
    for model in ("self-hosted-Qwen2.5-72B", "openai/some-model", None):
        response = litellm.ModelResponse(
            model=model, usage={"prompt_tokens": 10, "completion_tokens": 10}
        )
        assert tau2.utils.llm_utils.get_response_cost(response) == 0.0
    priced = litellm.ModelResponse(
        model="gpt-4o-mini", usage={"prompt_tokens": 1000, "completion_tokens": 10}
    )
    assert tau2.utils.llm_utils.get_response_cost(priced) > 0
    assert capfd.readouterr() == ("", "")


STATE = """
import json, logging, os, sys
import areal.api.cli_args, litellm, loguru, openai, tau2.registry

def state():
    root = logging.getLogger()
    return {
        "root": [root.level, len(root.handlers), root.disabled],
        "loguru": [list(loguru.logger._core.handlers), repr(loguru.logger._core.activation_list)],
        "litellm": {
            name: repr(value)
            for name, value in vars(litellm).items()
            if isinstance(value, (bool, int, str, list)) and not name.startswith("__")
        },
        "openai": [openai.api_key, openai.base_url, openai.max_retries],
        "environment": dict(os.environ),
        "path": sys.path,
    }

before = state()
import examples.tau2.utils
print(json.dumps([before, state()]))
"""


@pytest.mark.processes
def test_the_import_of_utils_changes_no_other_library():
    output = subprocess.run(
        [sys.executable, "-c", STATE], capture_output=True, text=True, check=True
    ).stdout
    before, after = json.loads(output.splitlines()[-1])
    assert before == after


ATTRIBUTES = """
import importlib, pkgutil
import areal.trainer.rl_trainer, areal.trainer.sft_trainer, areal.utils.recover
import areal.infra.rpc.guard.engine_blueprint
import tau2.utils.llm_utils
import examples.tau2.training as training

PATCHED = [
    areal.trainer.rl_trainer,
    areal.trainer.sft_trainer,
    areal.utils.recover,
    areal.infra.rpc.guard.engine_blueprint,
    tau2.utils.llm_utils,
]
before = [dict(vars(module)) for module in PATCHED]

names = ["examples.tau2.utils", "examples.tau2.agent", "examples.tau2.train", "examples.tau2.sft"]
for module in pkgutil.walk_packages(training.__path__, training.__name__ + "."):
    # no Megatron is installed where there is no GPU
    if not module.name.endswith(".megatron"):
        names.append(module.name)
for name in names:
    importlib.import_module(name)

for module, attributes in zip(PATCHED, before):
    for name, value in attributes.items():
        assert vars(module)[name] is value, (module, name)
print(len(names), "modules imported")
"""


@pytest.mark.processes
def test_no_import_changes_areal_or_tau2():
    output = subprocess.run(
        [sys.executable, "-c", ATTRIBUTES], capture_output=True, text=True, check=True
    ).stdout
    assert int(output.splitlines()[-1].split()[0]) > 20
