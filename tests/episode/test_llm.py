"""Faults of the user simulator's LLM, caused by real HTTP servers: no agent pays for them."""

import asyncio
import threading

import pytest

from examples.tau2 import agent as agent_module
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import failures, outage, participants
from examples.tau2.episode.llm import probe, user_llm
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.scripted import LLMServer, in_turn, say
from tests.waiting import Deadline

TASK = {"task_id": "create_task_1"}


def talk(user_answers, **econfig) -> Tau2RunInfo:
    """A conversation in the mock domain over real HTTP on both sides."""
    with LLMServer(in_turn(say("All done."))) as agent, LLMServer(in_turn(*user_answers)) as user:
        config = {
            "domain": "mock",
            "user_llm": "openai/user",
            "user_llm_base_url": user.base_url,
            **econfig,
        }
        info = asyncio.run(Tau2AgentWorkflow(config).play(TASK, agent.base_url, "key"))
        info.user_requests, info.agent_requests = user.requests, agent.requests
        return info


@pytest.mark.parametrize(
    "fault",
    [
        None,
        (429, {"error": {"message": "slow down"}}),
        (500, {"error": {"message": "oops"}}),
        (503, b"<html>busy</html>"),
        say(""),
        say("<think>hm</think>"),
        say(None),
        say(None, ("get_users", '{"trunc')),
        b'{"choices": [',
        {"object": "error"},
    ],
    ids=[
        "closed",
        "429",
        "500",
        "503",
        "empty",
        "thinking only",
        "nothing",
        "cut call",
        "cut body",
        "no completion",
    ],
)
def test_a_faulty_user_llm_is_asked_again_and_the_agent_is_untouched(fault):
    info = talk([fault, fault, say("Hello"), say("###STOP###")])
    assert (info.termination, len(info.agent_requests), len(info.user_requests)) == (
        "user_stop",
        1,
        4,
    )
    assert info.user_lost_seconds > 0
    assert [message.content for message in info.simulation.messages][1] == "Hello"


def test_an_empty_answer_at_temperature_0_is_not_asked_for_again_at_temperature_0():
    info = talk(
        [say(""), say("Hello"), say("###STOP###")], user_llm_args={"temperature": 0.0, "top_k": 5}
    )
    assert [request["temperature"] for request in info.user_requests] == [0.0, 1.0, 0.0]
    assert info.user_requests[0]["top_k"] == 5 and info.user_requests[0]["model"] == "user"


def test_a_user_llm_that_hangs_is_asked_again():
    is_over = threading.Event()

    def answer(request):
        if len(user.requests) == 1:
            is_over.wait()
        is_first_turn = len(request["messages"]) == 2
        return say("Hello") if is_first_turn else say("###STOP###")

    with LLMServer(answer) as user, LLMServer(in_turn(say("All done."))) as agent:
        config = {
            "domain": "mock",
            "user_llm": "u",
            "user_llm_base_url": user.base_url,
            "user_llm_args": {"timeout": 0.5},
        }
        info = asyncio.run(Tau2AgentWorkflow(config).play(TASK, agent.base_url, "key"))
        is_over.set()
    assert info.simulation.messages[1].content == "Hello" and info.user_lost_seconds > 0.5


def test_arguments_of_the_users_calls_reach_the_server():
    with (
        LLMServer(in_turn(say("Hello"), say("###STOP###"))) as user,
        LLMServer(in_turn(say("Done."))) as agent,
    ):
        args = {
            "temperature": 0.3,
            "top_k": 5,
            "extra_body": {"min_p": 0.1},
            "extra_headers": {"Authorization": "Bearer x"},
        }
        config = {
            "domain": "mock",
            "user_llm": "u",
            "user_llm_base_url": user.base_url,
            "user_llm_args": args,
        }
        asyncio.run(Tau2AgentWorkflow(config, {"top_p": 0.5}).play(TASK, agent.base_url, "key"))
    for request in user.requests:
        assert (request["temperature"], request["top_k"], request["min_p"], request["key"]) == (
            0.3,
            5,
            0.1,
            "x",
        )
        assert not {"extra_body", "extra_headers", "timeout"} & set(request)
    assert agent.requests[0]["top_p"] == 0.5


def test_a_user_llm_that_stays_down_rejects_the_episode_at_its_deadline(monkeypatch):
    deadline = Deadline(monkeypatch, agent_module, 60.0)

    def answer(_request):
        if len(user.requests) == 3:
            deadline.passes()

    with LLMServer(answer) as user:
        config = {
            "domain": "mock",
            "user_llm": "u",
            "user_llm_base_url": user.base_url,
            "timeout": 60.0,
        }
        play = Tau2AgentWorkflow(config).play(TASK, "http://127.0.0.1:9", "key")
        with pytest.raises(EpisodeRejected, match="user simulator used up the episode's deadline"):
            asyncio.run(play)


def test_a_user_llm_that_refuses_rejects_the_episode_at_once():
    refusal = (401, {"error": {"message": "bad key"}})
    with LLMServer(in_turn(refusal)) as user:
        config = {"domain": "mock", "user_llm": "u", "user_llm_base_url": user.base_url}
        play = Tau2AgentWorkflow(config).play(TASK, "http://127.0.0.1:9", "key")
        with pytest.raises(failures.UserSimulatorError, match="401"):
            asyncio.run(play)
        assert len(user.requests) == 1


def test_an_outage_of_the_user_llm_is_two_lines_in_the_log(logged, monkeypatch):
    monkeypatch.setattr(participants, "user_outage", outage.Outage("user simulator"))
    monkeypatch.setattr(outage, "SHORTEST_LOGGED_OUTAGE", 0.0)
    with logged(outage) as lines:
        talk([None] * 4 + [say("Hello"), say("###STOP###")])
    assert len(lines) == 2 and "4 failed calls" in lines[1]


def test_calls_that_fail_now_and_then_are_one_line_a_minute(logged):
    calls = outage.Outage("user simulator")
    with logged(outage) as lines:
        for _ in range(1000):
            calls.failed(failures.UnusableAnswer("empty"))
            calls.recovered()
    assert len(lines) == 1 and "UnusableAnswer: empty" in lines[0]


def test_a_hosted_user_llm_goes_through_litellm():
    with (
        LLMServer(in_turn(say("Hello"), say("###STOP###"))) as user,
        LLMServer(in_turn(say("Done."))) as agent,
    ):
        args = {"api_base": user.base_url, "api_key": "sk-test", "temperature": 0.3}
        config = {"domain": "mock", "user_llm": "openai/gpt-hosted", "user_llm_args": args}
        info = asyncio.run(Tau2AgentWorkflow(config).play(TASK, agent.base_url, "key"))
        assert info.termination == "user_stop"
        assert [request["temperature"] for request in user.requests] == [0.3, 0.3]


def test_a_server_that_areal_makes_up_is_not_called(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "none")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with LLMServer(in_turn(say("OK."))) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        call = user_llm("openai/gpt-hosted", None, None)
        assert asyncio.run(probe(call, None, None)).choices[0].message.content == "OK."


def test_keys_come_from_the_environment_and_go_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setenv("TAU2_USER_LLM_API_KEY", "sk-user-secret")
    with (
        LLMServer(in_turn(say("Hello"), say("###STOP###"))) as user,
        LLMServer(in_turn(say("Done."))) as agent,
    ):
        config = {"domain": "mock", "user_llm": "openai/u", "user_llm_base_url": user.base_url}
        asyncio.run(
            Tau2AgentWorkflow(config, output_dir=str(tmp_path)).run(
                TASK, agent.base_url, "sk-session-secret"
            )
        )
        assert {request["key"] for request in user.requests} == {"sk-user-secret"}
        assert {request["key"] for request in agent.requests} == {"sk-session-secret"}
    written = [path.read_text() for path in tmp_path.rglob("*.*")]
    assert len(written) == 2 and not any("secret" in text for text in written)


def test_a_key_among_the_arguments_is_sent_as_the_key():
    with (
        LLMServer(in_turn(say("Hello"), say("###STOP###"))) as user,
        LLMServer(in_turn(say("Done."))) as agent,
    ):
        args = {"api_key": "sk-mine"}
        config = {"domain": "mock", "user_llm_base_url": user.base_url, "user_llm_args": args}
        asyncio.run(Tau2AgentWorkflow(config).play(TASK, agent.base_url, "key"))
    assert [request["key"] for request in user.requests] == ["sk-mine"] * 2
    assert "api_key" not in user.requests[0]


def test_a_hiccup_of_the_user_does_not_excuse_a_slow_agent(monkeypatch):
    deadline = Deadline(monkeypatch, agent_module, 600.0)

    def answer(request):
        if len(request["messages"]) >= 5:
            deadline.passes()
        return say("Well.")

    user_answers = in_turn((429, {}), say("Hello"), say("And?"))
    with LLMServer(answer) as agent, LLMServer(user_answers) as user:
        config = {
            "domain": "mock",
            "user_llm": "u",
            "user_llm_base_url": user.base_url,
            "timeout": 600.0,
        }
        info = asyncio.run(Tau2AgentWorkflow(config).play(TASK, agent.base_url, "key"))
    assert (info.reward, info.termination) == (0.0, "timeout") and info.user_lost_seconds > 0


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 5}])
def test_partial_usage_is_no_fault(usage):
    info = talk([{**say("Hello"), "usage": usage}, {**say("###STOP###"), "usage": usage}])
    assert info.termination == "user_stop" and info.user_lost_seconds == 0


def test_a_user_that_stops_before_the_agent_speaks_rejects_the_episode():
    with pytest.raises(EpisodeRejected, match="user_stop before the agent's first completion"):
        talk([say("###STOP###")])
