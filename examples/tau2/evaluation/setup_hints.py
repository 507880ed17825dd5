"""Finds what looks like a fault of the server's set-up in episodes that the model seems to fail.

A server without a parser for the model's tool calls hands them over as text, so that no tool is
ever called. A parser that does not fit leaves a prefix at the tools' names.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from tau2.data_model.message import AssistantMessage, UserMessage

from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo

# The share of turns, or of calls, from which on a sign is told. A model makes such slips now and
# then by itself; a server that is set up wrongly makes them in every turn.
NOTICEABLE_SHARE = 0.05
# the most characters of an answer in a hint
MAX_EXCERPT = 120

# how the families of models begin a call
_CALL_MARKS = re.compile(
    r"<[|\uff5c]?[\w:\uff5c]{0,20}(?:tool[_▁]?call|function_call|invoke name=)"
    r"|<function=|<(?:function|tool) name=|\[TOOL_CALLS\]|\[ARGS\]|<\|python_(?:tag|start)\|>"
    r"|<\|action_start\|>|<\|START_ACTION\|>|<\|tools_prefix\|>|✿FUNCTION✿|\bto=functions\.",
    re.IGNORECASE,
)
# what stands around a tool's name in a call: a key of JSON, which wants arguments elsewhere, ...
_NAME_KEY = re.compile(
    r"""["'](?:name|function|tool|tool_name|action|recipient_name)["']\s*:\s*["'][\w.:/-]{0,30}\Z"""
)
_ARGUMENTS_KEY = re.compile(
    r"""["'](?:arguments|parameters|args|kwargs|(?:tool_|action_)?input)["']\s*:"""
)
# ... or arguments right after it
_ARGUMENTS = re.compile(
    r"""\s?\(\s{0,20}(?:\w{1,40}\s?=[^=]|[{"'])|(?::\d+)?(?:\sjson)?\s?\{\s{0,20}\w*["'<:]"""
    r"""|\s?```(?:json)?\s?\{|\s{1,3}Action Input:"""
)
# the most characters that are looked at before and after a tool's name
_NEAR = 80
# words that servers and agents' frameworks put before a tool's name, with one underscore
_PREFIX_WORDS = "functions?|tools?|(?:default_)?api|mcp|tau2"


@dataclass(frozen=True)
class EpisodeSigns:
    """What an episode shows of the server's set-up.

    `tool_calls` and `turns` are the agent's. `malformed` has the number of turns by what is wrong.
    `call_texts` are excerpts of the answers that look like calls. `odd_names` are the names of
    called tools that only resemble an offered one, as (called, offered). `cut_turns` ended at the
    limit of tokens. `user_turns` are those of the user simulator, and `user_calls` what looks like
    a call there: excerpts of texts, and names that resemble a tool's.
    """

    turns: int
    tool_calls: int
    malformed: Counter[str]
    call_texts: tuple[str, ...]
    odd_names: tuple[tuple[str, str], ...]
    cut_turns: int
    user_turns: int = 0
    user_calls: tuple[str, ...] = ()


def signs_of_episode(info: Tau2RunInfo) -> EpisodeSigns:
    """Look for signs in the turns of the agent and of the user simulator."""
    tools = _tool_names(info.domain, info.solo_mode, info.add_thinking_tool)
    # tau2 removes the call of `done` from the message, but not from the raw data
    spoken = [
        (message.content, message.raw_data)
        for message in info.simulation.messages
        if isinstance(message, AssistantMessage) and message.raw_data
    ]
    called = [call["function"]["name"] for _, raw in spoken for call in raw.get("tool_calls", [])]
    texts = [content for content, raw in spoken if content and "tool_calls" not in raw]
    odd_names = [(name, resembled_tool(name, tools)) for name in called]
    said = [message for message in info.simulation.messages if isinstance(message, UserMessage)]
    return EpisodeSigns(
        turns=len(info.turns),
        tool_calls=len(called),
        malformed=Counter(turn.malformed for turn in info.turns if turn.malformed),
        call_texts=tuple(filter(None, (call_as_text(text, tools) for text in texts))),
        odd_names=tuple((name, tool) for name, tool in odd_names if tool is not None),
        cut_turns=sum(turn.finish_reason == "length" for turn in info.turns),
        user_turns=len(said),
        user_calls=tuple(_user_calls(said, info.domain)),
    )


def _user_calls(said: Iterable[UserMessage], domain: str) -> Iterator[str]:
    tools = tuple(tool.name for tool in environment.user_tools(domain) or ())
    for message in said if tools else ():
        excerpt = call_as_text(message.content or "", tools)
        if excerpt:
            yield excerpt
        for call in message.tool_calls or []:
            if resembled_tool(call.name, tools):
                yield call.name


def add_signs(episodes: Iterable[EpisodeSigns]) -> EpisodeSigns:
    """Add up the signs of episodes."""
    every = list(episodes)
    return EpisodeSigns(
        turns=sum(signs.turns for signs in every),
        tool_calls=sum(signs.tool_calls for signs in every),
        malformed=sum((signs.malformed for signs in every), Counter()),
        call_texts=tuple(text for signs in every for text in signs.call_texts),
        odd_names=tuple(names for signs in every for names in signs.odd_names),
        cut_turns=sum(signs.cut_turns for signs in every),
        user_turns=sum(signs.user_turns for signs in every),
        user_calls=tuple(call for signs in every for call in signs.user_calls),
    )


def setup_hints(signs: EpisodeSigns, calls_are_expected: bool) -> Iterator[str]:
    """Yield one line for each thing that may be wrong with the server's set-up.

    `calls_are_expected` tells whether a task can only be solved by a tool call.
    """
    if signs.user_calls and len(signs.user_calls) >= NOTICEABLE_SHARE * signs.user_turns:
        yield (
            f"{len(signs.user_calls)} of {signs.user_turns} turns of the user simulator look like "
            f"tool calls that its server did not parse: {signs.user_calls[0]!r}; that server may "
            "lack a --tool-call-parser that fits its model"
        )
    if not signs.turns:
        return
    if len(signs.call_texts) >= NOTICEABLE_SHARE * signs.turns:
        yield (
            f"{len(signs.call_texts)} of {signs.turns} turns look like tool calls, but came as "
            f"text: {signs.call_texts[0]!r}; {_PARSER_ADVICE}"
        )
    elif not signs.tool_calls and calls_are_expected:
        yield f"no tool was called in {signs.turns} turns; {_PARSER_ADVICE}"
    if signs.tool_calls and len(signs.odd_names) >= NOTICEABLE_SHARE * signs.tool_calls:
        called, offered = signs.odd_names[0]
        yield (
            f"{len(signs.odd_names)} of {signs.tool_calls} tool calls have a name like {called!r} "
            f"for {offered!r}, which is an unknown tool; the server's --tool-call-parser may not "
            "fit the model"
        )
    if signs.cut_turns > signs.turns / 2:
        yield (
            f"{signs.cut_turns} of {signs.turns} turns ended at the limit of tokens; "
            "raise --max-completion-tokens, or the server's own limit"
        )


_PARSER_ADVICE = (
    "the server may lack the parser of the model's tool calls (SGLang: --tool-call-parser, vLLM: "
    "also --enable-auto-tool-choice, llama.cpp: --jinja)"
)


def call_as_text(text: str, tools: tuple[str, ...]) -> str | None:
    """Find a tool call in a text, as some family of models writes it, and return its beginning.

    Return None if there is none: a text that only names a tool, or has JSON of another kind, is no
    call. The time grows with the length of the text.
    """
    mark = _CALL_MARKS.search(text)
    if mark:
        return text[mark.start() :][:MAX_EXCERPT]
    has_arguments_key = _ARGUMENTS_KEY.search(text) is not None
    is_short = len(text.split()) <= 3
    for name in _names_pattern(tools).finditer(text):
        before = text[max(0, name.start() - _NEAR) : name.start()]
        after = text[name.end() : name.end() + _NEAR]
        if (
            (has_arguments_key and _NAME_KEY.search(before))
            or (_ARGUMENTS.match(after) and not before.endswith("def "))
            or (before[-1:] == "<" and after[:1] == ">")
            or (after.startswith("()") and is_short)
        ):
            return text[max(0, name.start() - MAX_EXCERPT // 4) :][:MAX_EXCERPT]
    return None


def resembled_tool(name: str, tools: tuple[str, ...]) -> str | None:
    """Find the offered tool whose name is called with an addition; None if there is none.

    `functions.look`, `default_api:look`, `tau2__look`, `look:0` and `look<|channel|>` resemble
    `look`. `look_up` is another name, which a model may make up.
    """
    if name in tools:
        return None
    begin, end = rf"(?:\A|\W|__|\A(?:(?:{_PREFIX_WORDS})_)+)", r"(?:\Z|\W|__|_\d+\Z)"
    for tool in tools:
        if re.search(f"{begin}{re.escape(tool)}{end}", name):
            return tool
    return None


@cache
def _names_pattern(tools: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
    # without special tokens, DeepSeek's "function" and the name are one word
    return re.compile(rf"(?<![A-Za-z0-9])(?:function)?(?:{names})(?![A-Za-z0-9_])")


@cache
def _tool_names(domain: str, solo_mode: bool, thinking_tool: bool) -> tuple[str, ...]:
    tools = environment.agent_tools(domain, solo_mode, thinking_tool)
    return tuple(tool.name for tool in tools)
