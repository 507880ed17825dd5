"""What agent and user make of their LLMs' answers, over real HTTP on both sides."""

import asyncio
import json
from itertools import count
from types import SimpleNamespace

import pytest

from examples.tau2 import agent as agent_module
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import participants, retries
from examples.tau2.episode.failures import UserSimulatorError
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.scripted import LLMServer, in_turn, say
from tests.waiting import Deadline

TASK = {"task_id": "create_task_1"}
CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
HELLO, STOP = say("Hello"), say("###STOP###")
# two kinds of refusals for now
BUSY = (429, {"error": {"message": "slow down"}}), (503, {"error": {"message": "starting"}})


def altered(completion: dict, **message) -> dict:
    """Change fields of a completion's message."""
    copy = json.loads(json.dumps(completion))
    copy["choices"][0]["message"].update(message)
    return copy


def play(agent_answers, user_answers, *, trains: bool = False, **econfig) -> Tau2RunInfo:
    with LLMServer(in_turn(*agent_answers)) as agent, LLMServer(in_turn(*user_answers)) as user:
        config = {"domain": "mock", "user_llm_base_url": user.base_url, **econfig}
        workflow = Tau2AgentWorkflow(config, trains=trains)
        info = asyncio.run(workflow.play(TASK, agent.base_url, "key"))
        info.agent_requests, info.user_requests = agent.requests, user.requests
        return info


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)


def test_the_agents_thoughts_go_back_to_it_and_not_to_the_user():
    thinking = altered(say(None, CREATE), reasoning_content="A meeting.")
    info = play([thinking, say("Done.")], [HELLO, STOP])
    assert (info.reward, info.termination) == (1.0, "user_stop")
    turn = info.agent_requests[1]["messages"][-2]
    assert turn["content"] == "<think>\nA meeting.\n</think>\n\n"
    assert turn["tool_calls"][0]["function"]["name"] == "create_task"
    assert "A meeting." not in json.dumps(info.user_requests)
    assert "A meeting." in info.to_text()


def test_the_users_thoughts_are_in_the_trajectory_only():
    info = play([say("Done.")], [altered(HELLO, reasoning="I am a customer."), STOP])
    message = info.simulation.messages[1]
    assert message.content == "Hello" and "I am a customer." in message.raw_data["content"]
    assert "I am a customer." in info.to_text()
    assert "I am a customer." not in json.dumps(info.agent_requests + info.user_requests)


@pytest.mark.parametrize("call_id", [None, "", 5])
def test_a_call_without_a_proper_id_is_well_formed(call_id):
    call = {"id": call_id, "function": {"name": CREATE[0], "arguments": CREATE[1]}}
    careless = altered(say(None), tool_calls=[call])
    info = play([careless, say("Done.")], [HELLO, STOP])
    assert info.reward == 1.0 and not any(turn.malformed for turn in info.turns)


def test_a_refusal_of_the_agent_is_told_to_the_user():
    info = play([altered(say(None), refusal="I cannot do that.")], [HELLO, STOP])
    assert info.user_requests[1]["messages"][-1]["content"] == "I cannot do that."
    assert info.simulation.messages[2].raw_data["refusal"] == "I cannot do that."
    assert "refused" in info.to_text() and info.statistics()["agent/refusals"] == 1


def test_an_evaluation_repeats_a_call_that_is_refused_for_now():
    info = play([*BUSY, say(None, CREATE), say("Done.")], [HELLO, STOP])
    assert info.reward == 1.0 and len(info.agent_requests) == 4
    first, second, third, _ = (request["messages"] for request in info.agent_requests)
    assert first == second == third


@pytest.mark.parametrize("refusal", BUSY)
def test_training_calls_the_proxy_once(refusal):
    with pytest.raises(Exception, match="slow down|starting"):
        play([refusal, say("Done.")], [HELLO, STOP], trains=True)


def test_a_server_that_stays_busy_is_given_up(monkeypatch):
    monkeypatch.setattr(participants, "MAX_REPEATS", 3)
    with pytest.raises(Exception, match="starting"):
        play([BUSY[1]] * 4 + [say("Done.")], [HELLO, STOP])


def test_the_time_of_a_busy_server_is_not_the_agents(monkeypatch):
    deadline = Deadline(monkeypatch, agent_module, 600.0)

    def answer(_request):
        if len(server.requests) == 2:
            deadline.passes()
        return BUSY[0]

    with LLMServer(answer) as server, LLMServer(in_turn(HELLO)) as user:
        workflow = Tau2AgentWorkflow(
            {"domain": "mock", "user_llm_base_url": user.base_url, "timeout": 600.0}, trains=False
        )
        # each look at the clock takes 100 seconds
        clock = count(step=100)
        monkeypatch.setattr(participants, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        with pytest.raises(EpisodeRejected, match="server was busy"):
            asyncio.run(workflow.play(TASK, server.base_url, "key"))


def test_a_silent_user_is_nudged_once():
    info = play([say("Well?")], [HELLO, *[say("")] * 3, STOP])
    assert info.termination == "user_stop"
    *before, nudged = [request["messages"] for request in info.user_requests]
    assert participants.NUDGE not in json.dumps(before)
    assert nudged[:-1] == before[-1][:-1]
    assert nudged[-1] == {"role": "user", "content": f"Well?\n\n{participants.NUDGE}"}
    assert participants.NUDGE not in info.to_text()


def test_a_user_that_stays_silent_rejects_the_episode_before_its_deadline():
    with pytest.raises(UserSimulatorError, match="empty"):
        play([say("Well?")], [HELLO, *[say("")] * 4, STOP])


@pytest.mark.parametrize("refusal", [{"refusal": "No."}, {"content": "<think>hm</think>"}])
def test_what_a_user_model_cannot_say_is_no_answer(refusal):
    answers = [altered(say(None), **refusal), HELLO, STOP]
    info = play([say("Well?")], [{**answer, "cost": 0.25} for answer in answers])
    assert info.simulation.messages[1].content == "Hello"
    # each answer is paid for, also one of no use
    statistics = info.statistics()
    assert statistics["user/usd"] == 0.75
    assert statistics["user/prompt_tokens"] == 3 * HELLO["usage"]["prompt_tokens"]


def test_an_episode_that_the_user_ends_at_once_counts_in_an_evaluation_only():
    info = play([say("Well?")], [STOP])
    assert (info.reward, info.termination, info.turns) == (0.0, "user_stop", [])
    with pytest.raises(EpisodeRejected, match="user_stop before the agent's first completion"):
        play([say("Well?")], [STOP], trains=True)
