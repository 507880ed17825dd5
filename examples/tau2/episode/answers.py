"""Reads what an OpenAI-compatible server answers: a chat completion in OpenAI's own shape.

Servers differ from OpenAI in what they send. `read_answer` and `to_completion` bring a completion
into OpenAI's shape, so that all code after them knows one shape only. An answer that is no
completion becomes an error that has the server's own words.
"""

import json
import re
import uuid
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion

from examples.tau2.episode.completions import join_thinking, to_utf8

# the most characters of a server's words in a message
MAX_WORDS = 300
# codes and types of errors that are words: a part of the word, and the HTTP status it stands for
_STATUS_OF_WORDS = {
    "ratelimit": 429,
    "throttl": 429,
    "quota": 429,
    "apikey": 401,
    "authentication": 401,
    "permission": 403,
    "notfound": 404,
    "badrequest": 400,
    "invalid": 400,
    "contextlength": 400,
    "overloaded": 503,
    "unavailable": 503,
}
# the fields in which servers put the thoughts of a model beside the content
_THOUGHTS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_details",
    "thinking_blocks",
)
# the fields in which servers put the arguments of a tool call
_ARGUMENTS = ("arguments", "parameters", "input", "args", "params", "kwargs")
# why a server ended a completion that the model did not end
_INTERRUPTED = ("error", "abort", "content_filter")


class BadAnswer(Exception):
    """The server's answer is no chat completion; the message says what it is."""


def read_answer(response: httpx.Response) -> ChatCompletion:
    """Read the chat completion of a response with an HTTP status of success.

    Raises:
        openai.APIStatusError: the body is an error, and has a status of its own.
        BadAnswer: the body is neither a completion nor an error.
    """
    text = response.text.removeprefix("\ufeff")
    if response.headers.get("Content-Type", "").startswith("text/event-stream") or re.match(
        r"\s*(data|event|id)?:", text
    ):
        raise BadAnswer(
            "the server answered with an event stream, although none was asked for: "
            "have it, or the gateway before it, answer without streaming"
        )
    if is_web_page(text):
        raise BadAnswer(
            f"{server_words(text)} came back instead of a completion{url_hint(response.url)}"
        )
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"the answer is empty or no JSON: {server_words(text)}") from error
    if not isinstance(body, dict):
        raise BadAnswer(f"the answer is no JSON object: {server_words(body)}")
    _raise_error(body, response)
    return to_completion(body)


def to_completion(body: dict[str, Any]) -> ChatCompletion:
    """Bring a completion into OpenAI's shape.

    The content becomes text, with thoughts before it as in training, where AReaL's proxy leaves
    them in the content. The text of a refusal becomes the content, if there is no other. Each tool
    call gets an id if it has none, and arguments as a text. Tokens that are not counted are 0.

    Raises:
        BadAnswer: the body has no message, or the message has a part of an unknown kind, or the
            server has interrupted the model before it said anything.
    """
    choice = _first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"the answer has no message: {server_words(body)}")
    calls = [_tool_call(call) for call in _calls(message)]
    message = {"role": "assistant", **_content(message), "tool_calls": calls or None}
    is_empty = not (message["content"] or calls)
    if is_empty and choice.get("finish_reason") in _INTERRUPTED:
        raise BadAnswer(f"the server ended an empty completion for: {choice['finish_reason']}")
    completion = {
        **body,
        "id": _text_id(body.get("id"), "chatcmpl"),
        # what else a choice has, e.g. `logprobs`, has another shape with each server
        "choices": [{"index": 0, "message": message, "finish_reason": choice.get("finish_reason")}],
        "usage": _usage(body.get("usage")),
    }
    return ChatCompletion.construct(None, **completion)


def server_words(body: object) -> str:
    """Find the words in which a server says what is wrong, in the body of its answer."""
    words = _error_text(body)
    if isinstance(words, str) and is_web_page(words):
        title = re.search(r"<title[^>]*>(.*?)</title>", words, re.DOTALL | re.IGNORECASE)
        words = f"a web page ({title[1].strip()})" if title else "a web page"
    elif not isinstance(words, str):
        words = json.dumps(words, ensure_ascii=False, default=str)
    return " ".join(words.split())[:MAX_WORDS] or "nothing"


def url_hint(url: httpx.URL) -> str:
    """Say what may be wrong with a server's URL, by the URL that was called; often nothing."""
    path = url.path.rstrip("/")
    if path.count("/chat/completions") > 1:
        return f" ({url}: give the server's URL without /chat/completions)"
    if not re.search(r"/v\d", path):
        return f" ({url}: is /v1 missing at the end of the server's URL?)"
    return f" ({url})"


def is_web_page(text: str) -> bool:
    """Whether a text is HTML."""
    return bool(re.match(r"\s*<(!doctype|html|head|body)\b", text, re.IGNORECASE))


def _error_text(body: object) -> object:
    """Take the text of an error out of the objects around it."""
    if isinstance(body, dict):
        for name in ("error", "message", "msg", "detail", "error_message", "errorMessage"):
            if body.get(name):
                return _error_text(body[name])
        # MiniMax
        if isinstance(body.get("base_resp"), dict):
            return body["base_resp"].get("status_msg", body)
    return body


def _raise_error(body: dict[str, Any], response: httpx.Response) -> None:
    """Raise the error that a server sent with the status of a success, if it is one.

    Raises:
        openai.APIStatusError: the body or its choice has an error; the error's code is the status.
    """
    choice = _first_choice(body)
    error = body.get("error") or choice.get("error")
    if not error and not choice and isinstance(body.get("message"), str):
        error = body
    # some servers send an error of the code 0 with each completion
    if not error or (isinstance(error, dict) and str(error.get("code")) == "0"):
        return
    status = _status(error if isinstance(error, dict) else body)
    kept = {"Retry-After": response.headers.get("Retry-After", "")}
    failed = httpx.Response(status, headers=kept, request=response.request, json=body)
    raise openai.APIStatusError(server_words(error), response=failed, body=error)


def _status(error: dict[str, Any]) -> int:
    """Find the HTTP status of an error in its code or type; 500 if neither says one."""
    for name in ("code", "status", "status_code", "type"):
        value = re.sub(r"[^a-z0-9]", "", str(error.get(name) or "").lower())
        if value.isdecimal() and 400 <= int(value) < 600:
            return int(value)
        for words, status in _STATUS_OF_WORDS.items():
            if words in value:
                return status
    return 500


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    """Return the choice of the lowest index of a completion; it is empty if there is none."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return {}
    found = [choice for choice in choices if isinstance(choice, dict)]
    return min(found, key=lambda choice: str(choice.get("index") or 0), default={})


def _content(message: dict[str, Any]) -> dict[str, Any]:
    """Make the content a text, with the thoughts before it; a refusal is kept, too."""
    text, thoughts, refusal = "", "", message.get("refusal") or None
    for part in _parts(message.get("content")):
        part_type, part_text = part.get("type"), part.get("text") or ""
        if not isinstance(part_text, str):
            raise BadAnswer(f"the content has a text that is no text: {part!r:.100}")
        if part_type in ("text", "output_text"):
            text += part_text
        elif part_type in ("thinking", "reasoning"):
            thoughts += _thought(part)
        elif part_type == "refusal":
            refusal = part.get("refusal")
        elif part_type != "redacted_thinking":
            raise BadAnswer(f"the content has a part of the type {part_type!r}: this is no text")
    for name in _THOUGHTS:
        thoughts = thoughts or _thought(message.get(name))
    text = text or refusal or ""
    # some servers send the thoughts twice
    if "</think>" not in text:
        text = join_thinking(text, thoughts)
    return {"content": to_utf8(text or None), "refusal": refusal}


def _parts(content: object) -> list[dict[str, Any]]:
    """List the parts of a content that may be a text, a part, or a list of both."""
    if content is None:
        return []
    parts = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, dict):
            raise BadAnswer(f"the content is neither a text nor a list of parts: {content!r:.100}")
        parts.append({"type": "text", **part})
    return parts


def _thought(value: object) -> str:
    """Join the texts of a thought, which may be a text, a part, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_thought(item) for item in value)
    if isinstance(value, dict):
        for name in ("text", "thinking", "reasoning", "summary", "content"):
            if value.get(name):
                return _thought(value[name])
    return ""


def _calls(message: dict[str, Any]) -> list[Any]:
    """List the tool calls of a message; older servers send a single `function_call`."""
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        return [{"function": message["function_call"]}]
    if calls and not isinstance(calls, list):
        raise BadAnswer(f"tool_calls is no list: {calls!r:.100}")
    return calls or []


def _tool_call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadAnswer(f"a tool call has no function with a name: {call!r:.100}")
    arguments = next((function[field] for field in _ARGUMENTS if field in function), None)
    if not isinstance(arguments, str):
        # null and [] are how some servers write that there are none
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    return {
        "id": _text_id(call.get("id"), "call"),
        "type": "function",
        "function": {"name": to_utf8(function["name"]), "arguments": to_utf8(arguments)},
    }


def _usage(usage: object) -> dict[str, Any] | None:
    """Fill in what a server did not count; None if it counted nothing."""
    if not isinstance(usage, dict) or not usage:
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) else 0 for count in counts)
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def _text_id(value: object, prefix: str) -> str:
    """Return an id as a text; make one if there is none."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number or isinstance(value, str) else ""
    return text.strip() or f"{prefix}_{uuid.uuid4().hex[:24]}"
