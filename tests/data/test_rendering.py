"""Prompts are those of SGLang's own server, by the chat templates of many families."""

import sys
from importlib.util import find_spec, module_from_spec

import pytest

pytest.importorskip("areal")
pytest.importorskip("sglang")

from examples.tau2.data import rendering
from examples.tau2.data.rendering import TemplateRefusal, render, render_text, render_turn
from examples.tau2.episode.completions import assistant_entry
from tests.prompts import HISTORIES, TOOLS, sglang_prompt, tokenizer_with
from tests.templates import FAULTY, TEMPLATES

# they show all that they get, or want functions without their wrapper
STRICT = {
    "shows its input": "{{ messages | tojson }}{{ tools | tojson }}{{ add_generation_prompt }}",
    "functions alone": "{% for tool in tools or [] %}{{ tool.name + '\n' }}{% endfor %}",
}


@pytest.mark.parametrize("name", [*TEMPLATES, *STRICT])
def test_prompts_are_those_of_sglang(name):
    tokenizer = tokenizer_with((TEMPLATES | STRICT)[name])
    prompts = [(history, TOOLS["mock"]) for history in HISTORIES.values()]
    prompts += [(HISTORIES["a user"], tools) for tools in (*TOOLS.values(), [])]
    for messages, tools in prompts:
        try:
            expected = sglang_prompt(tokenizer, messages, tools)
        except Exception:
            with pytest.raises(TemplateRefusal):
                render(tokenizer, messages, tools)
        else:
            assert render(tokenizer, messages, tools) == expected


def test_only_what_cannot_be_rendered_is_refused():
    """The comparison above is not between refusals."""
    refused = {
        (name, kind)
        for name, template in TEMPLATES.items()
        for kind, messages in HISTORIES.items()
        if not is_rendered(template, messages)
    }
    assert refused == {("Qwen3.5", "no user"), ("Llama 3.1", "several calls")}


def is_rendered(template: str, messages: list[dict]) -> bool:
    try:
        return bool(render(tokenizer_with(template), messages, TOOLS["mock"]))
    except TemplateRefusal:
        return False


@pytest.mark.parametrize("enable_thinking", [True, False])
def test_thinking_on_and_off(enable_thinking):
    tokenizer = tokenizer_with(TEMPLATES["Qwen3"])
    options = {"enable_thinking": enable_thinking}
    for messages in HISTORIES.values():
        rendered = render(tokenizer, messages, TOOLS["mock"], **options)
        expected = sglang_prompt(
            tokenizer, messages, TOOLS["mock"], chat_template_kwargs=dict(options)
        )
        assert rendered == expected
    assert tokenizer.decode(rendered).endswith("</think>\n\n") is not enable_thinking


def test_fields_that_sglang_does_not_know_are_left_out():
    tokenizer = tokenizer_with(STRICT["shows its input"])
    user = {"role": "user", "content": "Hi", "name": "someone"}
    said = {**assistant_entry("Hm.", []), "reasoning_content": "why", "refusal": None, "audio": {}}
    tool = {**TOOLS["mock"][0], "more": 1}
    messages = [user, {**said, "name": "agent"}, user]
    assert render(tokenizer, messages, [tool]) == sglang_prompt(tokenizer, messages, [tool])
    text = render_text(tokenizer, messages, [tool])
    assert '"reasoning_content": "why"' in text and "someone" not in text and "audio" not in text


@pytest.mark.parametrize(
    "arguments, expected", [("", "{}"), ("{}", "{}"), ("{", '"{"'), ("[1]", "[1]")]
)
def test_arguments_that_are_empty_or_no_object(arguments, expected):
    tokenizer = tokenizer_with(TEMPLATES["Qwen2.5"])
    messages = [HISTORIES["a user"][1], assistant_entry("", [("1", "create_task", arguments)])]
    result = {"role": "tool", "content": "{}", "tool_call_id": "1"}
    call = f'{{"name": "create_task", "arguments": {expected}}}\n</tool_call>'
    assert call in render_text(tokenizer, [*messages, result], [])


def test_prompts_are_the_same_where_sglang_is_not_installed(monkeypatch):
    tokenizer = tokenizer_with(STRICT["shows its input"])
    messages = HISTORIES["a user"]
    expected = [sglang_prompt(tokenizer, messages, tools) for tools in TOOLS.values()]
    monkeypatch.setitem(sys.modules, rendering.Tool.__module__, None)
    again = module_from_spec(find_spec(rendering.__name__))
    again.__spec__.loader.exec_module(again)
    assert again.Tool.__module__ == rendering.__name__
    assert [again.render(tokenizer, messages, tools) for tools in TOOLS.values()] == expected


@pytest.mark.parametrize("words", [words for words in FAULTY if "leaves" not in words])
def test_a_refusal_has_the_words_of_the_template(words):
    tokenizer = tokenizer_with(FAULTY[words])
    start = "the chat template refuses the conversation ("
    said = assistant_entry("", [("1", "create_task", '{"number": 1}')])
    result = {"role": "tool", "content": "{}", "tool_call_id": "1"}
    messages = [{"role": "user", "content": "Hi"}, said, result, assistant_entry("A", []), result]
    with pytest.raises(TemplateRefusal) as refusal:
        render(tokenizer, messages, [])
    assert start in str(refusal.value) and words in str(refusal.value)
    with pytest.raises(TemplateRefusal):
        render_turn(tokenizer, messages, [], assistant_entry("Done.", []))
