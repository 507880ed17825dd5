"""Servers that answer in other shapes than OpenAI: as without AEnvironment, and why not."""

import json

import openai
import pytest

from examples.tau2.episode.answers import BadAnswer
from examples.tau2.episode.failures import ConversationRefused
from tests.aenv.episodes import CREATE, MOCK, play, play_directly
from tests.scripted import say

DONE = say(None, ("done", {}))
WITH_USER = {**MOCK, "solo_mode": False}
USER = [say("I need a task."), say("Go on."), say("###STOP###")]
TOO_LONG = {"object": "error", "message": "The input (9 tokens) is longer than the model's context"}


def altered(completion: dict, **message) -> dict:
    """Change fields of a completion's message."""
    copy = json.loads(json.dumps(completion))
    copy["choices"][0]["message"].update(message)
    return copy


def with_logprobs(logprobs: object) -> dict:
    """A turn that creates the task, with the probabilities of its tokens."""
    completion = careless(text="Now.")
    completion["choices"][0]["logprobs"] = logprobs
    return completion


def careless(*, text: str | None = None, usage: dict | None = None, **call) -> dict:
    """A turn that creates the task, with changed fields of its call."""
    completion = say(text, CREATE)
    completion["usage"] = usage
    (entry,) = completion["choices"][0]["message"]["tool_calls"]
    entry.update(call)
    return completion


def call_with(**function) -> dict:
    """A turn that creates the task, with changed fields of its function."""
    name, arguments = CREATE
    return careless(function={"name": name, "arguments": json.dumps(arguments), **function})


@pytest.mark.parametrize(
    "turns",
    [
        [careless(type=None, text="Now.")],
        [careless(text="\ud800")],
        [careless(usage={"prompt_tokens": 3})],
        [careless(id=None)],
        [careless(id=7)],
        [call_with(arguments=CREATE[1])],
        [altered(careless(), content=[{"type": "thinking", "thinking": "hm"}])],
        [altered(careless(), reasoning_content="A meeting.")],
        [altered(careless(), reasoning="A meeting.")],
        [altered(say(None), refusal="No.")],
        [with_logprobs([0.5])],
        [with_logprobs({"content": [{"token": "Now."}]})],
        [say(None, ("get_users", "null")), careless()],
        [call_with(name="functions.create_task"), careless()],
        [(400, TOO_LONG)],
        [careless(), (400, TOO_LONG)],
    ],
    ids=[
        "no type of a call",
        "lone surrogate",
        "half a usage",
        "no id",
        "a number as id",
        "arguments as an object",
        "parts",
        "reasoning_content",
        "reasoning",
        "refusal",
        "logprobs as a list",
        "logprobs without alternatives",
        "null for arguments",
        "unknown tool",
        "too long at once",
        "too long",
    ],
)
def test_an_answer_counts_as_without_aenvironment(turns, aenv_service):
    assert _outcome(play, MOCK, [*turns, DONE]) == _outcome(play_directly, MOCK, [*turns, DONE])


@pytest.mark.parametrize(
    "turn",
    [
        altered(say(None), refusal="No."),
        altered(careless(), refusal="No."),
        altered(say("Hello."), reasoning_content="A greeting."),
        altered(say("Hello."), reasoning="A greeting.", content=None),
    ],
    ids=["refusal", "refusal with a call", "reasoning_content", "reasoning only"],
)
def test_an_answer_to_the_user_counts_as_without_aenvironment(turn, aenv_service):
    episode = WITH_USER, [turn, say("Done.")], USER
    assert _outcome(play, *episode) == _outcome(play_directly, *episode)


def _outcome(play_episode, *episode) -> tuple:
    """The reward and the histories, without the ids of calls, which are random where they lack."""
    try:
        reward, requests = play_episode(*episode)
    except Exception:
        return ("rejected",)
    histories = json.loads(json.dumps([request["messages"] for request in requests]))
    for message in (message for history in histories for message in history):
        message.pop("tool_call_id", None)
        for call in message.get("tool_calls") or []:
            del call["id"]
    return reward, histories


@pytest.mark.parametrize(
    "answer, failure, words",
    [
        (b"<html><title>Gateway</title></html>", BadAnswer, "a web page"),
        (b'data: {"choices": []}\n\n', BadAnswer, "event stream"),
        ({"choices": [{"message": None}]}, BadAnswer, "no message"),
        ({"error": {"code": 402, "message": "no credits"}}, openai.APIStatusError, "no credits"),
        (call_with(name=None), BadAnswer, "no function with a name"),
    ],
)
def test_what_is_no_completion_raises(answer, failure, words, aenv_service):
    with pytest.raises(failure, match=words):
        play(MOCK, [answer])


def test_a_refusal_of_what_was_answered_before_says_so(aenv_service):
    with pytest.raises(ConversationRefused, match="answered a turn before"):
        play(MOCK, [careless(), (400, {"error": {"message": "jinja says no"}})])


def test_the_prefix_of_a_models_name_is_not_sent(aenv_service):
    _, requests = play(MOCK, [careless(), DONE], model="openai/m")
    assert {request["model"] for request in requests} == {"m"}
