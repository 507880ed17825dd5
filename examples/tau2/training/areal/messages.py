"""How AReaL's proxy reads the messages of a chat completion request."""

from typing import Any

from areal.experimental.openai.client import _ensure_message_dict_list


def message_dicts(messages: list[Any]) -> list[dict[str, Any]]:
    """Return a request's messages as the proxy hands them to the chat template, without None."""
    return _ensure_message_dict_list("messages", messages)
