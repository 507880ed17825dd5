"""The function's sampling arguments, and the command that plays one episode."""

import os
import subprocess
import sys

import pytest

from aenv.examples.tau2_rl import agent
from tests.aenv.episodes import CREATE, MOCK, play
from tests.scripted import LLMServer, in_turn, say

EPISODE = ["--domain", "mock", "--task_id", "create_task_1", "--solo_mode", "--model", "m"]


def test_sampling_arguments_reach_the_policy(aenv_service):
    _, requests = play(MOCK, [say(None, ("done", {}))])
    defaults = {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 8192}
    assert defaults.items() <= requests[0].items()
    sampling = {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_completion_tokens": 64,
        "frequency_penalty": 0.5,
        "seed": 7,
        "reasoning_effort": "low",
        "response_format": {"type": "text"},
    }
    _, requests = play(MOCK, [say(None, ("done", {}))], timeout=60, **sampling)
    assert sampling.items() <= requests[0].items() and requests[0]["key"] == "key"
    renamed = {"max_completion_tokens": None, "max_tokens": 64, "temperature": None}
    _, requests = play(MOCK, [say(None, ("done", {}))], **renamed)
    assert requests[0]["max_tokens"] == 64
    assert not {"temperature", "max_completion_tokens"} & requests[0].keys()


@pytest.mark.processes
def test_command_with_a_service_of_its_own(tmp_path):
    with LLMServer(in_turn(say(None, CREATE), say(None, ("done", {})))) as policy:
        variables = {
            "OPENAI_BASE_URL": policy.base_url,
            "OPENAI_API_KEY": "key",
            "OPENAI_DEFAULT_MODEL": "some-model",
        }
        command = [sys.executable, agent.__file__, "--domain", "mock", "--task_id", "create_task_1"]
        played = subprocess.run(
            command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True
        )
    assert (played.returncode, played.stdout) == (0, "reward 1.0\n")
    assert "agent: create_task(" in played.stderr and policy.requests[0]["model"] == "some-model"


def run_command(policy: LLMServer, monkeypatch, *options: str) -> int:
    monkeypatch.setenv("OPENAI_BASE_URL", policy.base_url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return agent.main([*EPISODE, *options])


def test_the_command_sends_more_arguments(aenv_service, monkeypatch, capsys):
    with LLMServer(in_turn(say(None, CREATE), say(None, ("done", {})))) as policy:
        assert run_command(policy, monkeypatch, "--llm_args", '{"top_p": null, "seed": 7}') == 0
        with pytest.raises(SystemExit):
            run_command(policy, monkeypatch, "--llm_args", '{"stream": true}')
    assert policy.requests[0]["seed"] == 7 and "top_p" not in policy.requests[0]
    assert "--llm_args: it must not set stream" in capsys.readouterr().err


def test_the_command_names_what_may_be_wrong_with_the_policys_server(
    aenv_service, monkeypatch, capsys
):
    with LLMServer(in_turn((401, {"error": {"message": "no such key"}}))) as policy:
        assert run_command(policy, monkeypatch) == 1
    printed = capsys.readouterr().err
    assert "no such key" in printed and f"OPENAI_BASE_URL is {policy.base_url}" in printed
    assert "OPENAI_API_KEY is not set" in printed and "OPENAI_DEFAULT_MODEL is m." in printed


def test_command_that_cannot_play(aenv_service, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert agent.main(["--domain", "mock", "--task_id", "nonsense"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "no task 'nonsense'" in printed.err
