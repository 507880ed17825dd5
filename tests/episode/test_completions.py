"""Completions that are made, and what is read from completions."""

import pytest

from examples.tau2.episode.completions import (
    assistant_entry,
    chat_completion,
    function_calls,
    strip_thinking,
    to_utf8,
    token_usage,
)


def test_a_completion_without_calls_ends_with_stop():
    choice = chat_completion({"role": "assistant", "content": "Hello"}).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hello", "stop")


def test_a_completion_with_calls_ends_with_tool_calls():
    completion = chat_completion(assistant_entry(None, [("c1", "look", "{}")]))
    assert completion.choices[0].finish_reason == "tool_calls"
    assert function_calls(completion) == [("c1", "look", "{}")]


def test_a_completion_has_the_fields_that_are_given():
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    completion = chat_completion(
        {"role": "assistant", "content": "Hel"},
        finish_reason="length",
        completion_id="c1",
        usage=usage,
        created=7,
        model="m",
    )
    assert (completion.id, completion.created, completion.model) == ("c1", 7, "m")
    assert completion.choices[0].finish_reason == "length"
    assert token_usage(completion) == {"prompt_tokens": 3, "completion_tokens": 2}


def test_tokens_of_a_server_that_does_not_count_are_0():
    completion = chat_completion({"role": "assistant", "content": "Hello"})
    assert token_usage(completion) == {"prompt_tokens": 0, "completion_tokens": 0}


def test_an_entry_without_calls_has_no_list_of_calls():
    assert assistant_entry("Hello", []) == {"role": "assistant", "content": "Hello"}


def test_a_call_of_a_custom_tool_is_the_servers_fault():
    call = {"id": "c1", "type": "custom", "custom": {"name": "look", "input": "x"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    completion = chat_completion(message)
    with pytest.raises(TypeError, match="custom tool"):
        function_calls(completion)


@pytest.mark.parametrize(
    "content, visible",
    [
        (None, None),
        (" as it is ", " as it is "),
        ("<think>\nhm\n</think>\n\nHello", "Hello"),
        ("<think>never closed", ""),
        ("the prompt opened it</think>Hello", "Hello"),
        ("<think>a</think>One<think>b</think> two", "One two"),
        ("I think>so", "I think>so"),
    ],
)
def test_strip_thinking(content, visible):
    assert strip_thinking(content) == visible


def test_lone_surrogates_are_replaced():
    assert to_utf8("a\ud800b") == "a?b" and to_utf8(None) is None and to_utf8("ü") == "ü"
