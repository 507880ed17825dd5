"""Tries whether the proxy's parser reads the tool calls that the model's chat template writes."""

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from openai.types.chat import ChatCompletionMessageFunctionToolCall as FunctionCall
from transformers import PreTrainedTokenizerFast

from examples.tau2.data.rendering import TemplateRefusal, render_text
from examples.tau2.episode import environment
from examples.tau2.episode.completions import assistant_entry
from examples.tau2.training.checks.data import is_readable
from examples.tau2.training.checks.template import load_tokenizer
from examples.tau2.utils import Tau2PPOConfig


def probe_tool_call_parser(config: Tau2PPOConfig) -> Iterator[str]:
    """Have the parser of the proxy read a call as the chat template writes it.

    A parser that does not fit reads no call, so that every episode fails. Nothing is tried if
    SGLang, which has the parsers, is not installed, or if `probe_template` finds a problem.
    """
    try:
        # SGLang takes 8 seconds to import
        from sglang.srt.function_call.function_call_parser import FunctionCallParser
    except ImportError:
        return
    if not is_readable(config.econfig.domain):
        return
    schema = environment.agent_schemas(config.econfig.domain)[0]
    tokenizer, _ = load_tokenizer(config)
    text = tokenizer and call_of_template(tokenizer, schema)
    if not text:
        return
    agent = config.rollout.agent
    if reads(agent.tool_call_parser, agent.reasoning_parser, text, schema):
        return
    others = [
        name
        for name in FunctionCallParser.ToolCallParserEnum
        if reads(name, agent.reasoning_parser, text, schema)
    ]
    advice = f"these parsers read it: {', '.join(others)}" if others else "no parser reads it"
    yield (
        f"rollout.agent.tool_call_parser={agent.tool_call_parser} does not read a tool call as the "
        f"model's chat template writes it, {text!r}; {advice}"
    )


def call_of_template(tokenizer: PreTrainedTokenizerFast, schema: dict) -> str | None:
    """Render a call of a tool as the model says it; None if the chat template does not."""
    function = schema["function"]
    required = function["parameters"].get("required", [])
    arguments = json.dumps({name: "a value" for name in required})
    answer = assistant_entry(None, [("call00000", function["name"], arguments)])
    messages = [{"role": "system", "content": "?"}, {"role": "user", "content": "?"}]
    try:
        prompt = render_text(tokenizer, messages, [schema])
        conversation = render_text(tokenizer, [*messages, answer], [schema], False)
    except TemplateRefusal:
        return None
    if not conversation.startswith(prompt):
        return None
    return conversation.removeprefix(prompt).strip().removesuffix(str(tokenizer.eos_token))


def reads(tool_call_parser: str, reasoning_parser: str, text: str, schema: dict) -> bool:
    """Tell whether a parser reads the call of this tool in a text."""
    from areal.experimental.openai.tool_call_parser import process_tool_calls

    try:
        # a parser that fails prints its traceback
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            calls, _, _ = process_tool_calls(
                text, [schema], tool_call_parser, reasoning_parser, "stop"
            )
    except Exception:
        return False
    read = [call.function.name for call in calls or [] if isinstance(call, FunctionCall)]
    return read == [schema["function"]["name"]]
