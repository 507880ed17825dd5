"""Tasks are found by the rows of data sets, and refused if they cannot be played."""

import json
import os
from pathlib import Path

import pytest

from examples.tau2.data.tasks import find_task_row, own_id, task_label
from examples.tau2.episode import environment
from examples.tau2.episode.judge import needs_judge
from tests.own_tasks import EMPTY, mock_entry, problem_of, public_set, write

GOOD = mock_entry("user_1", "Lunch")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def test_a_task_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        find_task_row({"tasks_file": str(tmp_path / "none.jsonl"), "row": 1}, "mock")
    with pytest.raises(LookupError, match="no task in row 2"):
        find_task_row({"tasks_file": write(tmp_path, [GOOD]), "row": 2}, "mock")
    with pytest.raises(LookupError, match="no task 'x'"):
        find_task_row({"task_id": "x"}, "mock")


@pytest.mark.parametrize(
    "name, make, problem",
    [
        ("none.json", lambda path: None, "no such file"),
        ("folder.json", Path.mkdir, "no such file"),
        ("pipe.json", make_pipe, "no such file"),
        ("broken.json", lambda path: path.write_text("{"), "Expecting property name"),
        (
            "other.json",
            lambda path: path.write_text(json.dumps(EMPTY["airline"])),
            "flights: Extra inputs",
        ),
        (
            "wrong.json",
            lambda path: path.write_text('{"tasks": {}, "users": {"a": {}}}'),
            "users.a.user_id: Field",
        ),
        (
            "tagged.yaml",
            lambda path: path.write_text("!!python/object/apply:os.getcwd []"),
            "could not determine",
        ),
        (
            "db.pickle",
            lambda path: path.write_bytes(b"cos\nsystem\n"),
            "Unsupported file extension",
        ),
    ],
)
def test_a_database_that_cannot_be_loaded_is_named(name, make, problem, tmp_path):
    make(tmp_path / name)
    path = write(tmp_path, [mock_entry("ann", "Lunch", db_path=name)])
    assert f"database {tmp_path / name}: " in problem_of(path) and problem in problem_of(path)


def with_criteria(**criteria) -> dict:
    return mock_entry("user_1", "Lunch", evaluation_criteria=criteria)


@pytest.mark.parametrize(
    "row, problem",
    [
        (
            mock_entry(
                "a",
                "b",
                user_scenario={
                    "instructions": {**GOOD["user_scenario"]["instructions"], "domain": "bank"}
                },
            ),
            "unknown domain 'bank'; it must be one of airline, retail, telecom, mock",
        ),
        (
            with_criteria(actions=[{"action_id": "0", "name": "crate_task", "arguments": {}}]),
            "needs the tool 'crate_task', which mock does not have in",
        ),
        (
            with_criteria(
                env_assertions=[
                    {"env_type": "assistant", "func_name": "assert_luck", "arguments": {}}
                ]
            ),
            "needs the assistant's function 'assert_luck', which mock does not have in",
        ),
        (
            with_criteria(
                env_assertions=[
                    {"env_type": "user", "func_name": "assert_task_status", "arguments": {}}
                ]
            ),
            "needs the user's function 'assert_task_status', which mock does not have in",
        ),
        (
            mock_entry(
                "user_1",
                "Lunch",
                initial_state={
                    "initialization_actions": [
                        {"env_type": "assistant", "func_name": "__init__", "arguments": {}}
                    ]
                },
            ),
            "needs the assistant's function '__init__', which mock does not have in",
        ),
    ],
)
def test_tasks_that_cannot_be_played(row, problem, tmp_path):
    assert problem in problem_of(write(tmp_path, [row]))


def test_everything_that_is_wrong_with_a_row_is_said(tmp_path):
    row = with_criteria(
        actions=[{"action_id": "0", "name": "crate_task", "arguments": {}}],
        env_assertions=[{"env_type": "user", "func_name": "assert_luck", "arguments": {}}],
    )
    found = problem_of(write(tmp_path, [{**row, "db_path": "none.json"}]))
    assert "the tool 'crate_task', the user's function 'assert_luck', which" in found
    assert "none.json: no such file" in found


@pytest.mark.parametrize(
    "criteria, needed",
    [
        ({"reward_basis": ["DB", "NL_ASSERTION"]}, False),
        ({"reward_basis": ["DB", "NL_ASSERTION"], "nl_assertions": []}, False),
        ({"reward_basis": ["DB", "NL_ASSERTION"], "nl_assertions": ["It is kind."]}, True),
        ({"reward_basis": ["DB"], "nl_assertions": ["It is kind."]}, False),
    ],
)
def test_a_judge_is_needed_for_assertions_in_the_reward_basis(criteria, needed, tmp_path):
    path = write(tmp_path, [with_criteria(**criteria)])
    assert problem_of(path) == ""
    assert needs_judge(find_task_row({"tasks_file": path, "row": 1}, "mock").task) is needed


def test_the_id_of_a_task_in_its_own_file(tmp_path):
    path = write(tmp_path, [mock_entry("ann", "Lunch", id="[x]y|z[PERSONA:None]")])
    task = find_task_row({"tasks_file": path, "row": 1}, "mock").task
    assert (task.id, own_id(task)) == (f"{path}:1:[x]y|z[PERSONA:None]", "[x]y|z[PERSONA:None]")
    assert own_id(environment.find_task("mock", "create_task_1")) == "create_task_1"


def test_a_domain_without_solo_mode(tmp_path):
    path = public_set(tmp_path)
    assert problem_of(path, 1, solo_mode=True) == "line 1: domain airline has no solo mode"
    assert problem_of(path, 4, solo_mode=True) == ""


def test_names_in_messages():
    assert task_label({"tasks_file": "/a.jsonl", "row": 3}, "mock") == "task /a.jsonl:3"
    assert (
        task_label({"task_id": "x"}, "mock")
        == task_label({"task_id": "x", "db_path": "y"}, "mock")
        == "mock task 'x'"
    )
