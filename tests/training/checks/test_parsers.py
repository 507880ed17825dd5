"""Whether the parser of a config reads what the model's chat template writes."""

import pytest

from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.training.checks.parsers import probe_tool_call_parser
from tests.templates import TEMPLATES


@pytest.fixture
def model(tmp_path):
    """`model(name)`: the option of a folder with a tokenizer that has this family's template."""

    def save(name: str) -> str:
        tokenizer = untrained_tokenizer()
        tokenizer.chat_template = TEMPLATES[name]
        tokenizer.save_pretrained(tmp_path / "model")
        return f"tokenizer_path={tmp_path}/model"

    return save


@pytest.mark.parametrize("name, parser", [("Qwen3", "qwen"), ("Qwen3.5", "qwen3_coder")])
def test_a_parser_that_fits(airline, model, name, parser):
    config = airline(model(name), f"rollout.agent.tool_call_parser={parser}")
    assert list(probe_tool_call_parser(config)) == []


def test_a_parser_that_does_not_fit_is_told_with_those_that_do(airline, model):
    (problem,) = probe_tool_call_parser(airline(model("Qwen3.5")))
    assert problem.startswith("rollout.agent.tool_call_parser=qwen does not read a tool call")
    assert "<function=" in problem and "qwen3_coder" in problem.rpartition(";")[2]


def test_a_parser_that_does_not_exist(airline, model):
    (problem,) = probe_tool_call_parser(airline(model("Qwen3"), "rollout.agent.tool_call_parser=x"))
    assert "tool_call_parser=x does not read" in problem and "qwen" in problem.rpartition(";")[2]
