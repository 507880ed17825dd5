"""Answers of servers that differ from OpenAI: what they become, and what is said of the others."""

import json

import httpx
import openai
import pytest

from examples.tau2.episode.answers import BadAnswer, read_answer, server_words, to_completion
from examples.tau2.episode.completions import function_calls, token_usage

URL = "http://server/v1/chat/completions"
LOOK = {"name": "look", "arguments": '{"where": "here"}'}


def response(body, kind: str = "application/json", url: str = URL) -> httpx.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = httpx.Request("POST", url)
    return httpx.Response(200, headers={"Content-Type": kind}, content=data, request=request)


def answer(**message) -> dict:
    return {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def content_of(**message) -> str | None:
    return to_completion(answer(**message)).choices[0].message.content


def test_openais_own_answer_stays_as_it_is():
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    call = {"id": "call_1", "type": "function", "function": LOOK}
    completion = read_answer(response({**answer(content="Hi", tool_calls=[call]), "usage": usage}))
    message = completion.choices[0].message
    assert (completion.id, message.role, message.content) == ("c1", "assistant", "Hi")
    assert function_calls(completion) == [("call_1", "look", LOOK["arguments"])]
    assert token_usage(completion) == {"prompt_tokens": 3, "completion_tokens": 2}
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("call_id", ["missing", None, "", "  ", [], True])
def test_a_call_without_an_id_gets_one(call_id):
    given = {} if call_id == "missing" else {"id": call_id}
    calls = [{**given, "type": "function", "function": LOOK}] * 2
    found = [call[0] for call in function_calls(to_completion(answer(tool_calls=calls)))]
    assert all(len(one) > 10 for one in found) and len(set(found)) == 2


def test_an_id_that_is_a_number_becomes_a_text():
    completion = to_completion({**answer(tool_calls=[{"id": 0, "function": LOOK}]), "id": 7})
    assert completion.id == "7" and function_calls(completion)[0][0] == "0"


@pytest.mark.parametrize(
    "usage, tokens",
    [
        (None, (0, 0)),
        ([], (0, 0)),
        ({}, (0, 0)),
        ({"prompt_tokens": 3}, (3, 0)),
        ({"prompt_tokens": "3", "completion_tokens": None}, (0, 0)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}, (3, 2)),
    ],
)
def test_what_a_server_does_not_count_is_0(usage, tokens):
    completion = to_completion({**answer(content="Hi"), "usage": usage})
    assert tuple(token_usage(completion).values()) == tokens


@pytest.mark.parametrize("completion_id", [None, ""])
def test_a_completion_without_an_id_gets_one(completion_id):
    ids = {to_completion({**answer(content="Hi"), "id": completion_id}).id for _ in range(2)}
    assert len(ids) == 2 and "" not in ids


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"where": "ü"}, '{"where": "ü"}'),
        (None, "{}"),
        ([], "{}"),
        ({}, "{}"),
        ("", ""),
        ("{cut", "{cut"),
        ([1], "[1]"),
    ],
)
def test_arguments_become_a_text(arguments, text):
    call = {"id": "c", "function": {"name": "look", "arguments": arguments}}
    assert function_calls(to_completion(answer(tool_calls=[call]))) == [("c", "look", text)]


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "c", **LOOK}]},
        {"function_call": LOOK},
        {"tool_calls": [], "function_call": LOOK},
        {"tool_calls": [{"id": "c", "type": None, "function": LOOK}]},
        {
            "tool_calls": [
                {"id": "c", "function": {"name": "look", "parameters": LOOK["arguments"]}}
            ]
        },
        {"tool_calls": [{"id": "c", "name": "look", "input": {"where": "here"}}]},
    ],
)
def test_calls_of_other_shapes(message):
    calls = function_calls(to_completion(answer(content=None, **message)))
    assert [call[1:] for call in calls] == [("look", LOOK["arguments"])]


@pytest.mark.parametrize(
    "content, text",
    [
        (None, None),
        ("", None),
        ([], None),
        ("Hi", "Hi"),
        (["Hi", " there"], "Hi there"),
        ([{"type": "text", "text": "Hi"}, {"type": "output_text", "text": "!"}], "Hi!"),
        ({"type": "text", "text": "Hi"}, "Hi"),
        ([{"text": "Hi"}], "Hi"),
        ([{"type": "thinking", "thinking": "hm"}, "Hi"], "<think>\nhm\n</think>\n\nHi"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "Hi"],
            "<think>\nhm\n</think>\n\nHi",
        ),
        ([{"type": "reasoning", "summary": [{"text": "hm"}]}], "<think>\nhm\n</think>\n\n"),
        ([{"type": "redacted_thinking", "data": "x"}, "Hi"], "Hi"),
        ([{"type": "refusal", "refusal": "No."}], "No."),
    ],
)
def test_content_becomes_a_text(content, text):
    assert content_of(content=content) == text


def test_thoughts_in_blocks_are_kept():
    for blocks in (
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
    ):
        assert content_of(content="Hi", **blocks) == "<think>\nhm\n</think>\n\nHi"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_stand_before_the_content_as_a_model_writes_them(field):
    assert content_of(content="Hi", **{field: "\nhm\n"}) == "<think>\nhm\n</think>\n\nHi"
    assert content_of(content=None, **{field: "hm"}) == "<think>\nhm\n</think>\n\n"
    assert content_of(content="Hi", **{field: None}) == "Hi"
    assert content_of(content="Hi", **{field: " "}) == "Hi"


def test_thoughts_that_come_twice_are_kept_once():
    both = {"reasoning_content": "hm", "reasoning": "hm"}
    assert content_of(content="Hi", **both) == "<think>\nhm\n</think>\n\nHi"
    inside = "<think>hm</think>Hi"
    assert content_of(content=inside, reasoning_content="hm") == inside


def test_the_first_choice_is_that_of_the_lowest_index():
    second, first = answer(content="B")["choices"][0], answer(content="A")["choices"][0]
    completion = to_completion({"choices": [{**second, "index": 1}, first]})
    assert completion.choices[0].message.content == "A"


def test_a_refusal_is_what_the_model_says():
    message = to_completion(answer(content=None, refusal="I cannot.")).choices[0].message
    assert (message.content, message.refusal) == ("I cannot.", "I cannot.")
    assert to_completion(answer(content="Hi", refusal="")).choices[0].message.refusal is None


@pytest.mark.parametrize(
    "body, words",
    [
        ({}, "no message: {}"),
        ({"choices": []}, "no message"),
        ({"choices": None, "detail": "busy"}, "no message: busy"),
        ({"choices": [{"text": "Hi"}]}, "no message"),
        ({"choices": [{"message": None}]}, "no message"),
        ({"message": {"role": "assistant", "content": "Hi"}}, "no message"),
        ({"choices": [{"message": {}, "finish_reason": "abort"}]}, "completion for: abort"),
        (answer(content=5), "neither a text nor a list of parts: 5"),
        (answer(content=[{"type": "image_url"}]), "'image_url'"),
        (answer(tool_calls={"function": LOOK}), "tool_calls is no list"),
        (answer(tool_calls=["look"]), "no function with a name: 'look'"),
        (answer(tool_calls=[{"function": {"arguments": "{}"}}]), "no function with a name"),
        (answer(tool_calls=[{"type": "custom", "custom": {"name": "x"}}]), "no function"),
        ([], "no JSON object: []"),
        (b"", "empty or no JSON: nothing"),
        (b'{"choices": [', 'empty or no JSON: {"choices": ['),
        (b"busy", "empty or no JSON: busy"),
    ],
)
def test_what_is_no_completion_is_told_in_the_servers_words(body, words):
    with pytest.raises(BadAnswer) as caught:
        read_answer(response(body))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "body, status, words",
    [
        ({"choices": None, "error": {"code": 402, "message": "No credits"}}, 402, "No credits"),
        ({"error": {"code": "429", "message": "slow down"}}, 429, "slow down"),
        ({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, 429, "slow down"),
        ({"error": {"type": "invalid_request_error", "message": "bad"}}, 400, "bad"),
        ({"error": {"code": "model_not_found", "message": "no x"}}, 404, "no x"),
        ({"error": {"message": "oops"}}, 500, "oops"),
        ({"error": "oops"}, 500, "oops"),
        ({"error": "oops", "status": 503}, 503, "oops"),
        ({"object": "error", "message": "no x", "code": 404}, 404, "no x"),
        ({"code": "InvalidApiKey", "message": "wrong key"}, 401, "wrong key"),
        ({"choices": [{"error": {"code": 502, "message": "gone"}}]}, 502, "gone"),
        ({"choices": [], "error": {"code": 1, "message": "odd"}}, 500, "odd"),
    ],
)
def test_an_error_with_the_status_of_a_success_has_the_status_of_its_code(body, status, words):
    with pytest.raises(openai.APIStatusError) as caught:
        read_answer(response(body))
    assert caught.value.status_code == status and words in caught.value.message


PAGE = b"\n<!DOCTYPE html><html><head><title>Log in\n here</title></head></html>"


@pytest.mark.parametrize(
    "url, words",
    [
        ("http://server/chat/completions", "is /v1 missing at the end of the server's URL?"),
        ("http://server/v1/chat/completions/chat/completions", "without /chat/completions"),
        (URL, f"({URL})"),
        ("http://server/v1beta/openai/chat/completions", "openai/chat/completions)"),
    ],
)
def test_a_web_page_is_told_with_its_title_and_what_the_url_may_lack(url, words):
    with pytest.raises(BadAnswer) as caught:
        read_answer(response(PAGE, "text/html", url))
    assert "a web page (Log in here) came back" in str(caught.value) and words in str(caught.value)


def test_what_stands_before_a_completion_does_no_harm():
    body = json.dumps({**answer(content="Hi"), "error": {"code": 0, "message": "ok"}})
    for before in ("\ufeff", "\n \n"):
        completion = read_answer(response((before + body).encode()))
        assert completion.choices[0].message.content == "Hi"


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "application/json"])
def test_a_stream_is_named(kind):
    chunk = json.dumps({"object": "chat.completion.chunk"})
    with pytest.raises(BadAnswer, match="event stream, although none was asked for"):
        read_answer(response(f"data: {chunk}\n\ndata: [DONE]\n\n".encode(), kind))


@pytest.mark.parametrize(
    "body, words",
    [
        ({"error": {"message": "  a\nb "}}, "a b"),
        (
            {"detail": [{"msg": "missing", "loc": ["body"]}]},
            '[{"msg": "missing", "loc": ["body"]}]',
        ),
        ({"base_resp": {"status_code": 1008, "status_msg": "no balance"}}, "no balance"),
        ({"error": {"code": 5}}, '{"code": 5}'),
        (PAGE.decode(), "a web page (Log in here)"),
        ("<html>busy</html>", "a web page"),
        ("", "nothing"),
        (None, "null"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_words_of_a_server_are_found_in_its_answer(body, words):
    assert server_words(body) == words
