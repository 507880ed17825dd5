"""Servers that answer in other shapes than OpenAI: as without AEnvironment, and why not."""

import json

import openai
import pytest

from examples.tau2.episode.answers import BadAnswer
from examples.tau2.episode.failures import ConversationRefused
from tests.aenv.episodes import CREATE, MOCK, play, play_directly
from tests.scripted import say

DONE = say(None, ("done", {}))
TOO_LONG = {"object": "error", "message": "The input (9 tokens) is longer than the model's context"}


def altered(completion: dict, **message) -> dict:
    """Change fields of a completion's message."""
    copy = json.loads(json.dumps(completion))
    copy["choices"][0]["message"].update(message)
    return copy


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
        "null for arguments",
        "unknown tool",
        "too long at once",
        "too long",
    ],
)
def test_an_answer_counts_as_without_aenvironment(turns, aenv_service):
    def outcome(play_episode) -> tuple:
        try:
            reward, requests = play_episode(MOCK, [*turns, DONE])
        except Exception:
            return ("rejected",)
        return reward, [_said(request["messages"]) for request in requests]

    assert outcome(play) == outcome(play_directly)


def _said(messages: list[dict]) -> list[tuple]:
    """What a history says, without the ids of calls, and without empty content."""
    said = []
    for message in messages:
        calls = [call["function"] for call in message.get("tool_calls") or []]
        said.append((message["role"], message.get("content") or None, calls))
    return said


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
