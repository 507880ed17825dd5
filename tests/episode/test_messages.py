"""tau2's messages as OpenAI's, and tool calls as tau2's."""

import pytest
from openai.types.chat import ChatCompletion
from tau2.data_model.message import (
    AssistantMessage,
    MultiToolMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)

from examples.tau2.episode.messages import parse_tool_calls, to_openai
from tests.scripted import say

CALL = ToolCall(id="c1", name="look", arguments={"where": "ü"}, requestor="user")
ANSWER = ToolMessage(id="c1", role="tool", content="nothing", requestor="user")


def test_each_side_sees_its_own_words_as_the_assistants():
    said = UserMessage(role="user", content="Hi")
    assert to_openai(said) == [{"role": "user", "content": "Hi"}]
    assert to_openai(said, speaker="user") == [{"role": "assistant", "content": "Hi"}]
    answer = AssistantMessage(role="assistant", content="Yes?")
    assert to_openai(answer) == [{"role": "assistant", "content": "Yes?"}]
    assert to_openai(answer, speaker="user") == [{"role": "user", "content": "Yes?"}]


def test_tool_calls_and_their_answers():
    (entry,) = to_openai(UserMessage(role="user", tool_calls=[CALL]), speaker="user")
    assert entry["tool_calls"] == [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "look", "arguments": '{"where": "\\u00fc"}'},
        }
    ]
    both = MultiToolMessage(role="tool", tool_messages=[ANSWER, ANSWER])
    assert to_openai(both, speaker="user") == 2 * [
        {"role": "tool", "content": "nothing", "tool_call_id": "c1"}
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": ',
        "[1]",
        '"text"',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_arguments_that_are_no_object_of_sane_json(arguments):
    with pytest.raises(ValueError, match="tool call"):
        parse_tool_calls(ChatCompletion.model_validate(say(None, ("f", arguments))), "assistant")


def test_tool_calls_are_tau2s():
    completion = ChatCompletion.model_validate(say(None, ("f", {"a": [1]}), ("g", "")))
    calls = parse_tool_calls(completion, "user")
    assert [(call.name, call.arguments, call.requestor) for call in calls] == [
        ("f", {"a": [1]}, "user"),
        ("g", {}, "user"),
    ]
    assert parse_tool_calls(ChatCompletion.model_validate(say("Hello")), "user") is None
