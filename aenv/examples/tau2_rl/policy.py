"""The policy as a model of the Agents SDK, which repairs the completions of careless servers."""

from typing import Any

from agents import OpenAIChatCompletionsModel
from openai.types.chat import ChatCompletion, ChatCompletionMessageCustomToolCall

from examples.tau2.episode.completions import to_utf8


class Policy(OpenAIChatCompletionsModel):
    """The Agents SDK's model with repaired completions.

    Without the repair, the Agents SDK would refuse some completions, or take them for empty. tau2
    has its own answers to such completions, so tau2 must get them.
    """

    async def _fetch_response(self, *arguments: Any, **keywords: Any) -> ChatCompletion:
        """Fetch a completion and repair it.

        Raises:
            RuntimeError: the completion has no message.
        """
        completion = await super()._fetch_response(*arguments, **keywords)
        if not isinstance(completion, ChatCompletion) or not _has_message(completion):
            raise RuntimeError("the policy's server sent a completion without a message")
        repair(completion)
        return completion


def repair(completion: ChatCompletion) -> None:
    """Fill in what the server left out, and replace text that HTTP cannot carry.

    Raises:
        TypeError: a call is of a custom tool; no policy is offered one.
    """
    message = completion.choices[0].message
    message.content = to_utf8(message.content)
    for call in message.tool_calls or []:
        if isinstance(call, ChatCompletionMessageCustomToolCall):
            raise TypeError("the policy's server sent a call of a custom tool")
        call.type = "function"
        call.id = call.id or f"call-{id(call)}"
        call.function.name = to_utf8(call.function.name or "")
        call.function.arguments = to_utf8(call.function.arguments or "")
    usage = completion.usage
    if usage is not None and None in (usage.completion_tokens, usage.total_tokens):
        completion.usage = None


def _has_message(completion: ChatCompletion) -> bool:
    # some servers send null, whatever the type says
    return bool(completion.choices) and completion.choices[0].message is not None
