"""The user simulator's chat template, to the letter: the prompts of a Qwen without thinking."""

from pathlib import Path

import pytest
from sglang.srt.parser.jinja_template_utils import detect_jinja_template_content_format
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

FILE = (Path(__file__).parents[1] / "examples/tau2/qwen3_nonthinking.jinja").read_text()
# SGLang reads the file of its --chat-template in this way
AS_SGLANG_READS_IT = FILE.strip("\n").replace("\\n", "\n")

ANSWER = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
TOOL = {
    "type": "function",
    "function": {
        "name": "toggle_data",
        "description": "Größe <b> & 'x'",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
    },
}
TOOLS_SECTION = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "toggle_data", "description": "Größe <b> & 'x'", \
"parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


@pytest.fixture(
    scope="module", params=[FILE, AS_SGLANG_READS_IT], ids=["file", "as SGLang reads it"]
)
def render(request):
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=request.param)

    def render(*messages: dict, tools: list[dict] | None = None, prompt: bool = True) -> str:
        return tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=prompt
        )

    return render


def say(role: str, content: str | None, **more) -> dict:
    return {"role": role, "content": content, **more}


def call(arguments, name: str = "toggle_data") -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_answers_start_after_an_empty_thought(render):
    assert render(say("user", "hi")) == f"<|im_start|>user\nhi<|im_end|>\n{ANSWER}"
    assert render(say("user", "hi"), prompt=False) == "<|im_start|>user\nhi<|im_end|>\n"


def test_system_message(render):
    assert render(say("system", "You are a user."), say("user", "hi")) == (
        f"<|im_start|>system\nYou are a user.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n{ANSWER}"
    )


def test_tools_without_a_system_message(render):
    assert render(say("user", "hi"), tools=[TOOL]) == (
        f"<|im_start|>system\n{TOOLS_SECTION}<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n{ANSWER}"
    )


def test_tools_follow_the_system_message(render):
    assert render(say("system", "You are a user."), say("user", "hi"), tools=[TOOL]) == (
        f"<|im_start|>system\nYou are a user.\n\n{TOOLS_SECTION}<|im_end|>\n"
        f"<|im_start|>user\nhi<|im_end|>\n{ANSWER}"
    )


def test_no_tools_is_no_section(render):
    assert render(say("user", "hi"), tools=[]) == render(say("user", "hi"))


def test_several_turns(render):
    messages = [
        say("user", "a"),
        say("assistant", "b"),
        say("user", "c"),
        say("system", "d"),
        say("user", "e"),
    ]
    assert render(*messages) == (
        "<|im_start|>user\na<|im_end|>\n"
        "<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n"
        "<|im_start|>system\nd<|im_end|>\n"
        f"<|im_start|>user\ne<|im_end|>\n{ANSWER}"
    )


@pytest.mark.parametrize(
    "thought", ["<think>\nwhy\n</think>\n\n", "<think>\n\n</think>\n\n", "why\n</think>\n"]
)
def test_earlier_thoughts_are_dropped(render, thought):
    turns = [say("user", "a"), say("assistant", f"{thought}b"), say("user", "c")]
    assert render(*turns) == render(turns[0], say("assistant", "b"), turns[2])


def test_reasoning_content_is_not_rendered(render):
    turns = [say("user", "a"), say("assistant", "b", reasoning_content="why"), say("user", "c")]
    assert "why" not in render(*turns)


def test_results_of_several_calls_share_a_user_turn(render):
    messages = [
        say("user", "a"),
        say("assistant", "Wait.", tool_calls=[call({"on": True}), call({}, "reboot")]),
        say("tool", "done", tool_call_id="call_1"),
        say("tool", "rebooted", tool_call_id="call_2"),
    ]
    expected = """\
<|im_start|>user
a<|im_end|>
<|im_start|>assistant
Wait.
<tool_call>
{"name": "toggle_data", "arguments": {"on": true}}
</tool_call>
<tool_call>
{"name": "reboot", "arguments": {}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
done
</tool_response>
<tool_response>
rebooted
</tool_response><|im_end|>
"""
    assert render(*messages) == expected + ANSWER
    more = [say("assistant", "ok"), say("tool", "late", tool_call_id="call_3"), say("user", "b")]
    assert render(*messages, *more) == (
        f"{expected}<|im_start|>assistant\nok<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nlate\n</tool_response><|im_end|>\n"
        f"<|im_start|>user\nb<|im_end|>\n{ANSWER}"
    )


@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize(
    ("arguments", "rendered"),
    [
        ({"on": True, "name": "Größe"}, '{"on": true, "name": "Größe"}'),
        ('{"on":true}', '{"on":true}'),
        ({}, "{}"),
        ("", "{}"),
        (None, "{}"),
    ],
)
def test_a_call_without_words(render, content, arguments, rendered):
    assert render(
        say("user", "a"), say("assistant", content, tool_calls=[call(arguments)]), say("tool", "1")
    ) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        f'{{"name": "toggle_data", "arguments": {rendered}}}\n</tool_call><|im_end|>\n'
        f"<|im_start|>user\n<tool_response>\n1\n</tool_response><|im_end|>\n{ANSWER}"
    )


@pytest.mark.parametrize("calls", [None, []])
def test_no_calls(render, calls):
    assert render(say("user", "a"), say("assistant", "b", tool_calls=calls), say("user", "c")) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        f"<|im_start|>user\nc<|im_end|>\n{ANSWER}"
    )


def test_content_that_is_missing_is_empty(render):
    turns = [say("system", None), say("user", None), {"role": "assistant"}, {"role": "tool"}]
    assert render(*turns) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n"
        f"<|im_start|>user\n<tool_response>\n\n</tool_response><|im_end|>\n{ANSWER}"
    )


def test_a_final_answer_has_the_empty_thought_of_its_prompt(render):
    prompt = render(say("user", "a"))
    assert render(say("user", "a"), say("assistant", "b"), prompt=False) == f"{prompt}b<|im_end|>\n"


def test_sglang_joins_lists_of_text_parts_for_it():
    assert detect_jinja_template_content_format(FILE) == "string"
