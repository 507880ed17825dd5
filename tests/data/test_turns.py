"""The format of turns: what is read of a line, and what may be wrong with it."""

import json
from pathlib import Path

import pytest

from examples.tau2.data.files import WrongFile
from examples.tau2.data.turns import Turn, read_turns, write_turns
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig

CALL = {"id": "call_1", "type": "function", "function": {"name": "get_users", "arguments": "{}"}}


def row(metadata: dict | None = None, **parts) -> dict:
    known = {"source_dialog_id": "retail_dialog_1", "turn_index": 0, "correct": 1, "reward": 1.0}
    return {
        "messages": [{"role": "user", "content": "Hi"}],
        "answer": {"role": "assistant", "content": "Hello.", "thinking": "", "tool_calls": []},
        "metadata": {**known, **(metadata or {})},
        **parts,
    }


@pytest.fixture
def read(tmp_path):
    def read(*rows: dict | str) -> list[Turn]:
        path = tmp_path / "turns.jsonl"
        path.write_text(
            "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows)
        )
        return read_turns(path, lambda turn: turn)

    return read


def test_only_turns_of_solved_dialogs_are_read(read):
    failed = [
        row({"correct": 0}),
        row({"reward": 0.5}),
        row({"correct": 0}, answer={"content": ""}),
    ]
    assert len(read(row(), *failed, "", row({"correct": True, "reward": 1}))) == 2


@pytest.mark.parametrize(
    "metadata, offered",
    [
        ({}, ("retail", False, False)),
        ({"source_dialog_id": "telecom_dialog_7"}, ("telecom", False, False)),
        ({"domain": "mock"}, ("mock", False, False)),
        (
            {"domain": "telecom", "solo_mode": True, "add_thinking_tool": True},
            ("telecom", True, True),
        ),
    ],
)
def test_the_tools_are_those_that_the_agent_had(read, metadata, offered):
    (turn,) = read(row(metadata))
    assert turn.tools == environment.agent_schemas(*offered)


def test_thoughts_are_part_of_the_answer_and_calls_are_openais(read):
    flat = {"name": "get_users", "arguments": {"größe": 1}}
    (turn,) = read(row(answer={"content": None, "thinking": " Hm. ", "tool_calls": [flat]}))
    called = {"name": "get_users", "arguments": '{"größe": 1}'}
    assert turn.answer == {
        "role": "assistant",
        "content": "<think>\nHm.\n</think>\n\n",
        "tool_calls": [{"id": "", "type": "function", "function": called}],
    }


@pytest.mark.parametrize(
    "bad, expected",
    [
        ("{", "no JSON"),
        ("[]", "messages is no list, or empty"),
        (row(messages=[]), "messages is no list, or empty"),
        (row(answer="Hello."), "answer is no object, or empty"),
        ({"messages": [1], "answer": {"content": "x"}}, "metadata is no object, or empty"),
        (row(metadata={}) | {"metadata": {"correct": 1}}, "metadata has no reward"),
        (row(messages=["Hi"]), "a message has no role, or one that is not"),
        (
            row(messages=[{"role": "developer", "content": "x"}]),
            "a message has no role, or one that is not",
        ),
        (
            row(answer={"content": " ", "thinking": "Hm."}),
            "answer has neither content nor tool_calls",
        ),
        (
            row(answer={"tool_calls": [{"function": {"name": ""}}]}),
            "a tool call has no name, or arguments that are no",
        ),
        (
            row(answer={"tool_calls": [{"name": "f", "arguments": "[1]"}]}),
            "a tool call has no name, or arguments that are",
        ),
        (
            row(answer={"tool_calls": ["f"]}),
            "a tool call has no name, or arguments that are no JSON object",
        ),
        (
            row(answer={"tool_calls": "f()"}),
            "a tool call has no name, or arguments that are no JSON object",
        ),
        (row(answer={"content": ["x"]}), "content is no text"),
        (row(messages=[{"role": "user", "content": [{}]}]), "content is no text"),
        (row(answer={"content": "x", "thinking": 1}), "thinking is no text"),
        (row({"source_dialog_id": "bank_dialog_1"}), "metadata's domain None is unknown"),
        (row({"domain": "bank"}), "metadata's domain 'bank' is unknown"),
        (row({"solo_mode": True}), "metadata's domain 'retail' has no solo mode"),
    ],
)
def test_bad_lines_are_named_with_what_is_wrong(read, bad, expected):
    with pytest.raises(ValueError) as error:
        read(row(), bad)
    (line,) = str(error.value).splitlines()
    assert line.startswith("line 2: ") and expected in line


def test_all_bad_lines_are_named_at_once(read):
    with pytest.raises(ValueError) as error:
        read("{", row(), "{", "{", "{", row(answer={}), "", "{")
    assert str(error.value).splitlines() == [
        "line 1, 3-5, 8: no JSON",
        "line 6: answer is no object, or empty",
    ]


def test_a_conversion_that_fails_counts_as_a_bad_line(tmp_path):
    path = tmp_path / "turns.jsonl"
    path.write_text(json.dumps(row()) + "\n")

    def refuse(turn: Turn) -> Turn:
        raise ValueError("too long")

    with pytest.raises(ValueError, match="line 1: too long"):
        read_turns(path, refuse)


def test_what_is_written_is_read(tmp_path):
    history = [
        {"role": "system", "content": "Policy."},
        {"role": "assistant", "content": "<think>\nA\n</think>\n\nB"},
    ]
    said = [
        {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello.", "tool_calls": [CALL]},
        {"role": "assistant", "content": "größer"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    ]
    played = Tau2EnvConfig(domain="mock", solo_mode=True, add_thinking_tool=True)
    path = tmp_path / "new" / "turns.jsonl"
    assert write_turns(path, [("mock_1", played, [(history, message) for message in said])]) == 3
    tools = environment.agent_schemas("mock", True, True)
    assert read_turns(path, lambda turn: turn) == [
        Turn(history, tools, message) for message in said
    ]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["answer"]["thinking"] for row in rows] == ["Hm.", None, None]
    assert [row["answer"]["content"] for row in rows] == ["Hello.", "größer", ""]
    assert [row["metadata"]["turn_index"] for row in rows] == [0, 1, 2]
    assert list(Path(path.parent).iterdir()) == [path]


@pytest.mark.parametrize(
    "lines, kind",
    [
        ([], "empty"),
        ([json.dumps({"user_scenario": {}, "id": "1"})] * 2, "a tasks file"),
        ([json.dumps({"messages": []})] * 3, "JSON with the fields messages"),
        ([json.dumps([row()])], "JSON, an array of objects with the fields messages, answer, meta"),
        (
            [json.dumps(row(), indent=1)],
            "one JSON object over many lines, with the fields messages",
        ),
        (["defaults: [base]"], "a config"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(read, lines, kind):
    with pytest.raises(WrongFile, match=f"^this is {kind}.*; a file of turns, JSONL .* is wanted$"):
        read(*lines)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(WrongFile, match="^this is an empty folder; a file of turns"):
        read_turns(tmp_path, lambda turn: turn)
