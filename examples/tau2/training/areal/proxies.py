"""Has AReaL's proxy render prompts as this project does."""

from areal.experimental.openai import client

from examples.tau2.data.rendering import apply_chat_template


def render_tool_calls() -> None:
    """Have the proxy of this process give each chat template the arguments that it takes.

    The proxy gives a template the arguments of tool calls as texts, also if it takes objects.
    """
    client.apply_chat_template = apply_chat_template
