"""Prompts by the chat templates of many families; test_areal_proxies.py compares with the proxy."""

import pytest

pytest.importorskip("areal")

from areal.utils import hf_utils
from transformers import PreTrainedTokenizerFast

from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.data.rendering import TemplateRefusal, render, render_text, render_turn
from examples.tau2.episode.completions import assistant_entry
from tests.templates import FAULTY, TAKE_OBJECTS, TAKE_TEXTS

ARGUMENTS = {"user_id": "größer", "due": [1, None], "title": 'A "b"'}
# not as Python writes it
TEXT = '{"user_id":"größer", "due": [1,null], "title": "A \\"b\\""}'


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are bytes."""
    return train_tokenizer([""], vocab_size=300, min_frequency=2)


def conversation(arguments: str) -> list[dict]:
    return [
        {"role": "user", "content": "Hi"},
        assistant_entry("", [("call_1", "create_task", arguments)]),
        {"role": "tool", "content": "{}", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize("name", TAKE_TEXTS)
def test_a_template_that_takes_texts_gets_them_as_they_are(tokenizer, name):
    tokenizer.chat_template = TAKE_TEXTS[name]
    messages = conversation(TEXT)
    areals = hf_utils.apply_chat_template(tokenizer, messages, tools=[], add_generation_prompt=True)
    assert render(tokenizer, messages, []) == areals
    assert TEXT in render_text(tokenizer, messages, [])


@pytest.mark.parametrize("name", TAKE_OBJECTS)
def test_a_template_that_takes_objects_gets_them(tokenizer, name):
    tokenizer.chat_template = TAKE_OBJECTS[name]
    messages = conversation(TEXT)
    expected = conversation(TEXT)
    # in the order of keys that the proxy makes
    function = {"arguments": ARGUMENTS, "name": "create_task"}
    expected[1]["tool_calls"][0]["function"] = function
    rendered = render_text(tokenizer, messages, [])
    assert rendered == tokenizer.apply_chat_template(
        expected, tools=[], add_generation_prompt=True, tokenize=False
    )
    assert "größer" in rendered and messages == conversation(TEXT)


@pytest.mark.parametrize(
    "arguments, expected", [("", "{}"), ("{}", "{}"), ("{", '"{"'), ("[1]", "[1]")]
)
def test_arguments_that_are_empty_or_no_object(tokenizer, arguments, expected):
    tokenizer.chat_template = TAKE_OBJECTS["Qwen2.5"]
    call = f'{{"name": "create_task", "arguments": {expected}}}\n</tool_call>'
    assert call in render_text(tokenizer, conversation(arguments), [])


@pytest.mark.parametrize("words", [words for words in FAULTY if "leaves" not in words])
def test_a_refusal_has_the_words_of_the_template(tokenizer, words):
    tokenizer.chat_template = FAULTY[words]
    start = "the chat template refuses the conversation ("
    messages = [*conversation('{"number": 1}'), assistant_entry("A", []), conversation("")[2]]
    with pytest.raises(TemplateRefusal) as refusal:
        render(tokenizer, messages, [])
    assert start in str(refusal.value) and words in str(refusal.value)
    with pytest.raises(TemplateRefusal):
        render_turn(tokenizer, messages, [], assistant_entry("Done.", []))
