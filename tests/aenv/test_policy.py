"""Incomplete completions of careless servers are repaired, and the episode is scored."""

import pytest

from tests.aenv.episodes import CREATE, MOCK, play
from tests.scripted import say


def careless(**changes) -> dict:
    """A turn that creates the task, as a careless server would send it."""
    completion = say("Now.", CREATE)
    message = completion["choices"][0]["message"]
    message["content"] = changes.get("content", message["content"])
    if "usage" in changes:
        completion["usage"] = changes["usage"]
    call = message["tool_calls"][0]
    call.pop("type")
    call["id"] = changes.get("id", call["id"])
    return completion


@pytest.mark.parametrize(
    "turn",
    [
        careless(),
        careless(content="\ud800"),
        careless(usage={"prompt_tokens": 3}),
        careless(id=None),
    ],
    ids=["no type of a call", "lone surrogate", "half a usage", "no id"],
)
def test_a_careless_server_does_no_harm(turn, aenv_service):
    assert play(MOCK, [turn, say(None, ("done", {}))])[0] == 1.0


def test_calls_without_arguments_or_a_name(aenv_service):
    turn = say(None, ("get_users", {}))
    function = turn["choices"][0]["message"]["tool_calls"][0]["function"]
    function["arguments"] = None
    assert play(MOCK, [turn, say(None, CREATE), say(None, ("done", {}))])[0] == 1.0
    function["name"] = None
    assert play(MOCK, [turn])[0] == 0.0


def test_a_completion_without_a_message_raises(aenv_service):
    nothing = say("")
    nothing["choices"][0]["message"] = None
    with pytest.raises(RuntimeError, match="without a message"):
        play(MOCK, [nothing])
