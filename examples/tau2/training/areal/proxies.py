"""Has AReaL's proxy render prompts as SGLang's own server does."""

from areal.experimental.openai import client

from examples.tau2.data.rendering import apply_chat_template


def render_as_sglang() -> None:
    """Have the proxy of this process give a chat template what SGLang's server gives it.

    The proxy of AReaL 1.0.4 gives it tools in another order of keys, and the arguments of tool
    calls as texts. A later proxy gives what SGLang does, which `apply_chat_template` leaves as it
    is.
    """
    client.apply_chat_template = apply_chat_template
