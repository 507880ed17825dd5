"""Signs that a server is set up wrongly, in texts, names and numbers."""

import asyncio
from collections import Counter

import pytest

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.evaluation.setup_hints import (
    EpisodeSigns,
    add_signs,
    call_as_text,
    resembled_tool,
    setup_hints,
    signs_of_episode,
)
from tests.scripted import replay, say

TOOLS = ("create_task", "get_users", "done")
NOTHING = EpisodeSigns(0, 0, Counter(), (), (), 0)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "create_task", "arguments": {"title": "x"}}\n</tool_call>',
        '<minimax:tool_call>\n<invoke name="create_task">',
        '<|tool_call>call:create_task{title:<|"|>x<|"|>}<tool_call|>',
        "<start_function_call>call:create_task{title:<escape>x<escape>}<end_function_call>",
        '<TOOLCALL>[{"name": "create_task", "arguments": {}}]</TOOLCALL>',
        "<tool_call>create_task\n<arg_key>title</arg_key>\n<arg_value>x</arg_value>\n</tool_call>",
        "I will do it.\n<function=create_task>\n<parameter=title>\nx\n</parameter>\n</function>",
        '<function_calls>\n<invoke name="create_task">',
        '[TOOL_CALLS][{"name": "create_task", "arguments": {"title": "x"}}]',
        '[TOOL_CALLS]create_task{"title": "x"}',
        '{"name": "create_task", "parameters": {"title": "x"}}',
        '{"type": "function", "name": "create_task", "parameters": {}}',
        '{"type": "function", "function": {"name": "create_task", "arguments": "{}"}}',
        '{"arguments": {"title": "x"}, "name": "create_task"}',
        "{'name': 'create_task', 'arguments': {'title': 'x'}}",
        '{"action": "create_task", "action_input": {"title": "x"}}',
        '```json\n[{"name": "functions.create_task", "arguments": {}}]\n```',
        '<|python_tag|>{"name": "create_task", "parameters": {}}',
        '[create_task(title="x"), get_users()]',
        'functions.create_task({"title": "x"})',
        "create_task( title = 'x')",
        "[done()]",
        "done()",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.create_task:0",
        "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>create_task",
        "<\uff5cDSML\uff5cfunction_calls>\n<\uff5cDSML\uff5cinvoke name=",
        'functioncreate_task\n```json\n{"title": "x"}\n```',
        'functions.create_task:0{"title": "x"}',
        'create_task[ARGS]{"title": "x"}',
        'create_task{"title": "x"}',
        '```tool_code\ncreate_task("user_1", "x")\n```',
        "<create_task>\n<title>x</title>\n</create_task>",
        'assistantcommentary to=functions.create_task json{"title": "x"}',
        '<|channel|>commentary to=functions.create_task <|constrain|>json<|message|>{"title": "x"}',
        'Thought: hm\nAction: create_task\nAction Input: {"title": "x"}',
    ],
)
def test_calls_as_text(text):
    assert call_as_text(text, TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "Your task is there. Anything else?",
        "I have called create_task for you; done (it took a second).",
        "The tool create_task() makes a task.",
        'Your data: {"name": "Important Meeting", "arguments": "none"}',
        '{"name": "create_task"} is what the log says',
        "def make_task(title='x'): pass",
        "def create_task(title='x'): pass",
        "We are all done(for now).",
        "Use the function f(x) = 2 x",
        "",
    ],
)
def test_texts_that_are_no_calls(text):
    assert not call_as_text(text, TOOLS)


def test_the_excerpt_shows_the_call():
    text = f"I will do it. {'x' * 500} <function=create_task>\n<parameter=title>"
    assert call_as_text(text, TOOLS) == "<function=create_task>\n<parameter=title>"


@pytest.mark.parametrize(
    "part", [" ", "1.", "a-", "_", "create_task ", '"name": "done" ', "<", "["]
)
def test_a_model_that_repeats_itself_makes_no_call_and_costs_little_time(part):
    # a search that grows with the square of the length would not end
    assert call_as_text(part * 200_000, TOOLS) is None
    assert resembled_tool(part * 200_000, TOOLS) in (None, "create_task", "done")


@pytest.mark.parametrize(
    "name, tool",
    [
        ("create_task", None),
        ("functions.create_task", "create_task"),
        ("functions.create_task:0", "create_task"),
        ("create_task:12", "create_task"),
        ("default_api:create_task", "create_task"),
        ("default_api.create_task", "create_task"),
        ("tau2__create_task", "create_task"),
        ("mcp__server__create_task", "create_task"),
        ("tau2-env@1.0.0/create_task", "create_task"),
        ("functions_create_task", "create_task"),
        ("mcp_tau2_create_task", "create_task"),
        ("create_task<|channel|>commentary", "create_task"),
        ("create_task_1", "create_task"),
        ("create_task()", "create_task"),
        ("tool_done", "done"),
        ("not_done", None),
        ("create_tasks", None),
        ("make_task", None),
        ("create_task_now", None),
        ("", None),
    ],
)
def test_names_that_resemble_a_tool(name, tool):
    assert resembled_tool(name, TOOLS) == tool


def signs_of(*turns: dict) -> EpisodeSigns:
    """Play a solo episode in which the agent says this, and find its signs."""
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    episode = workflow.play_with(replay(list(turns)), {"task_id": "create_task_1"})
    return signs_of_episode(asyncio.run(episode))


def test_signs_of_an_episode():
    prefixed, done = say(None, ("functions.get_users", {})), say(None, ("done", {}))
    cut = say("<function=get_users>", finish_reason="length")
    assert signs_of(done) == EpisodeSigns(1, 1, Counter(), (), (), 0)
    assert signs_of(prefixed, done) == EpisodeSigns(
        2, 2, Counter(unknown_tool=1), (), (("functions.get_users", "get_users"),), 0
    )
    assert signs_of(prefixed, cut) == EpisodeSigns(
        2,
        1,
        Counter(unknown_tool=1, text_in_solo_mode=1),
        ("<function=get_users>",),
        (("functions.get_users", "get_users"),),
        1,
    )
    assert signs_of(say(None, ("get_users", "{"))).tool_calls == 1


def hints(*, calls_are_expected: bool = True, **fields) -> list[str]:
    signs = EpisodeSigns(**{**vars(NOTHING), **fields})
    return list(setup_hints(signs, calls_are_expected))


def test_episodes_without_any_call():
    (hint,) = hints(turns=40)
    assert hint.startswith("no tool was called in 40 turns") and "--tool-call-parser" in hint
    assert hints(turns=40, calls_are_expected=False) == hints(turns=40, tool_calls=1) == []
    assert hints() == []


def test_calls_as_text_are_shown():
    (hint,) = hints(turns=40, tool_calls=10, call_texts=("<function=look>",) * 2)
    assert hint.startswith("2 of 40 turns look like tool calls") and "'<function=look>'" in hint
    assert hints(turns=40, tool_calls=10, call_texts=("<function=look>",)) == []


def test_names_with_a_prefix_are_shown():
    (hint,) = hints(turns=40, tool_calls=20, odd_names=(("functions.look", "look"),))
    assert "1 of 20 tool calls" in hint and "'functions.look' for 'look'" in hint
    assert hints(turns=40, tool_calls=21, odd_names=(("functions.look", "look"),)) == []


def test_calls_of_the_user_that_its_server_did_not_parse():
    (hint,) = hints(turns=9, tool_calls=1, user_turns=20, user_calls=("functions.look",))
    assert hint.startswith("1 of 20 turns of the user simulator look like tool calls")
    assert "'functions.look'" in hint and "--tool-call-parser" in hint
    assert hints(turns=9, tool_calls=1, user_turns=21, user_calls=("functions.look",)) == []


def test_turns_that_are_cut_off():
    (hint,) = hints(turns=40, tool_calls=10, cut_turns=21)
    assert "21 of 40 turns ended at the limit of tokens" in hint
    assert hints(turns=40, tool_calls=10, cut_turns=20) == []


def test_signs_add_up():
    one = EpisodeSigns(2, 1, Counter(empty=1), ("a",), (("f.x", "x"),), 1)
    assert add_signs([one, NOTHING, one]) == EpisodeSigns(
        4, 2, Counter(empty=2), ("a", "a"), (("f.x", "x"),) * 2, 2
    )
