"""Tasks files: what is read of them, and everything that can be wrong with a row."""

import json
import os
from pathlib import Path

import pytest
import tau2.utils

from examples.tau2.data import tasks
from examples.tau2.episode import environment
from tests.own_tasks import EMPTY, mock_db, mock_entry, public_set, write


def problem_of(path: str, number: int = 1, domain: str = "mock", solo_mode: bool = False) -> str:
    """What is wrong with a row; "" if nothing is."""
    rows, unreadable = tasks.read_tasks_file(path, domain)
    return (unreadable | tasks.unplayable_tasks(rows, solo_mode)).get(number, "")


def test_rows_of_several_domains_with_their_databases(tmp_path):
    path = public_set(tmp_path)
    rows = [
        tasks.find_task_row({"tasks_file": path, "row": number}, "telecom")
        for number in (1, 2, 3, 4)
    ]
    assert [row.domain for row in rows] == ["airline", "airline", "retail", "mock"]
    assert [row.task.id for row in rows[:2]] == [f"{path}:1:airline_1", f"{path}:2:airline_1"]
    assert [Path(row.db_path).name for row in rows] == [
        "airline.json",
        "airline.json",
        "retail.json",
        "mock.json",
    ]
    assert all(problem_of(path, number) == "" for number in (1, 2, 3, 4))
    criteria = environment.find_task("airline", "2").evaluation_criteria
    assert rows[1].task.evaluation_criteria == criteria
    shared = [environment.databases(row.domain, row.db_path) for row in rows[:2]]
    assert shared[0] is shared[1]


@pytest.mark.parametrize("domain", environment.DOMAINS)
def test_tau2s_own_tasks_json(domain):
    path = Path(tau2.utils.DATA_DIR) / f"tau2/domains/{domain}/tasks.json"
    rows, unreadable = tasks.read_tasks_file(str(path), "mock")
    assert unreadable == {} and {row.domain for row in rows.values()} == {domain}
    assert {row.db_path for row in rows.values()} == {None}
    for number, (row, task) in enumerate(
        zip(rows.values(), environment.load_tasks(domain).values(), strict=True), 1
    ):
        assert row.task.id == f"{path}:{number}:{task.id}"
        assert row.task.model_copy(update={"id": task.id}) == task
    assert tasks.unplayable_tasks(rows, domain in environment.SOLO_DOMAINS) == {}


def test_the_domain_is_the_configs_where_the_task_names_none(tmp_path):
    plain = mock_entry("user_1", "Lunch", user_scenario={"instructions": "You want lunch."})
    structured = mock_entry("user_1", "Lunch")
    del structured["user_scenario"]["instructions"]["domain"]
    path = write(tmp_path, [plain, structured, mock_entry("user_1", "Lunch")])
    rows, unreadable = tasks.read_tasks_file(path, "retail")
    assert unreadable == {} and [row.domain for row in rows.values()] == [
        "retail",
        "retail",
        "mock",
    ]


def test_a_file_and_a_database_are_read_once(tmp_path):
    path = write(
        tmp_path, [mock_entry("ann", "Lunch", db_path="db/mock.json")], mock=mock_db("ann")
    )
    assert problem_of(path) == ""
    for file in (path, tmp_path / "db/mock.json"):
        os.unlink(file)
    row = tasks.find_task_row({"tasks_file": path, "row": 1}, "mock")
    assert "ann" in environment.make_environment(row.domain, db_path=row.db_path).tools.db.users


def test_rows_are_numbered_by_line_whatever_lines_are_made_of(tmp_path):
    separators = mock_entry("user_1", "a\u2028b\u0085c")
    lines = [
        json.dumps(separators, ensure_ascii=False).encode(),
        b"",
        b"  \r",
        json.dumps(separators).encode() + b"\r",
    ]
    path = write(tmp_path, lines)
    Path(path).write_bytes(b"\xef\xbb\xbf" + Path(path).read_bytes())
    rows, unreadable = tasks.read_tasks_file(path, "mock")
    assert list(rows) == [1, 4] and unreadable == {}


GOOD = mock_entry("user_1", "Lunch")


@pytest.mark.parametrize(
    "line, problem",
    [
        (b'{"id": "a", ', "line 2: no JSON: Expecting property name"),
        (b'{"id": "\xff"}', "line 2: no JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "line 2: no JSON: maximum recursion depth"),
        (b'"airline_1"', "line 2: no JSON object"),
        ({"id": "a"}, "line 2: no tau2 Task: user_scenario: Field required"),
        ({**GOOD, "id": 7}, "line 2: no tau2 Task: id: Input should be a valid string"),
        (
            {**GOOD, "user_scenario": "x"},
            "line 2: no tau2 Task: user_scenario: Input should be a valid dictionary",
        ),
        (
            {**GOOD, "user_scenario": {"instructions": {"domain": ["mock"]}}},
            "line 2: no tau2 Task: user_scenario",
        ),
        (
            {**GOOD, "evaluation_criteria": "{"},
            "line 2: evaluation_criteria is a string, but no JSON: Expecting",
        ),
        (
            {**GOOD, "evaluation_criteria": '{"reward_basis": ["LUCK"]}'},
            "evaluation_criteria.reward_basis.0: Input",
        ),
        ({**GOOD, "db_path": 7}, "line 2: db_path 7 is no path"),
        ({**GOOD, "db_path": "a\0b"}, "line 2: db_path 'a\\x00b' is no path"),
    ],
)
def test_rows_that_are_no_tasks(line, problem, tmp_path):
    path = write(tmp_path, [GOOD, line, GOOD])
    rows, unreadable = tasks.read_tasks_file(path, "mock")
    assert list(rows) == [1, 3] and list(unreadable) == [2] and problem in unreadable[2]


def test_a_bad_entry_of_an_array_is_named_by_its_number_and_line(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([GOOD, [], {"id": "a"}, GOOD], indent=2))
    rows, unreadable = tasks.read_tasks_file(str(path), "mock")
    assert list(rows) == [1, 4]
    lines = path.read_text().split("\n")
    for number, text in ((2, "[]"), (3, '"id": "a"')):
        line = next(n for n, content in enumerate(lines, 1) if text in content)
        assert unreadable[number].startswith(f"task {number}, line {line - (number == 3)}: no ")


@pytest.mark.parametrize(
    "content, problem",
    [("[{}", "no JSON: Expecting ',' delimiter: line 1"), ("[" * 10**5, "no JSON")],
)
def test_an_array_that_is_no_json(content, problem, tmp_path):
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(ValueError, match=problem):
        tasks.read_tasks_file(str(tmp_path / "tasks.json"), "mock")


def test_what_is_not_there(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        tasks.find_task_row({"tasks_file": str(tmp_path / "none.jsonl"), "row": 1}, "mock")
    with pytest.raises(LookupError, match="no task in row 2"):
        tasks.find_task_row({"tasks_file": write(tmp_path, [GOOD]), "row": 2}, "mock")
    with pytest.raises(LookupError, match="no task 'x'"):
        tasks.find_task_row({"task_id": "x"}, "mock")


# -- databases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "db_path",
    ["../secret.json", "db/../../secret.json", "{outside}", "link.json", "linked/secret.json"],
)
def test_a_database_outside_the_files_folder_is_refused(db_path, tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps(mock_db("ann")))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "linked").symlink_to(tmp_path)
    outside = db_path.format(outside=tmp_path / "secret.json")
    path = write(folder, [mock_entry("ann", "Lunch", db_path=outside)])
    assert problem_of(path) == f"line 1: db_path {outside!r} leads out of the file's folder"


def test_a_folder_whose_name_begins_like_the_files_is_another(tmp_path):
    (tmp_path / "set2").mkdir()
    path = write(tmp_path / "set", [mock_entry("ann", "Lunch", db_path="../set2/db.json")])
    assert "leads out" in problem_of(path)


def test_links_within_the_folder_and_to_it_are_followed(tmp_path):
    path = write(
        tmp_path / "set",
        [
            mock_entry("ann", "Lunch", db_path=name)
            for name in ("db/mock.json", "link.json", "db/../db/mock.json")
        ],
        mock=mock_db("ann"),
    )
    (tmp_path / "set/link.json").symlink_to("db/mock.json")
    (tmp_path / "data").symlink_to("set")
    through = path.replace("/set/", "/data/")
    rows = tasks.read_tasks_file(through, "mock")[0].values()
    assert (
        len({row.db_path for row in rows}) == 1
        and [problem_of(through, n) for n in (1, 2, 3)] == [""] * 3
    )


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


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
def test_databases_that_cannot_be_loaded(name, make, problem, tmp_path):
    make(tmp_path / name)
    path = write(tmp_path, [mock_entry("ann", "Lunch", db_path=name)])
    assert f"database {tmp_path / name}: " in problem_of(path) and problem in problem_of(path)


# -- what would be found when an episode is played or evaluated ---------------------------------------------------------


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
            "expects 'crate_task', which is no tool of mock",
        ),
        (
            with_criteria(
                env_assertions=[
                    {"env_type": "assistant", "func_name": "assert_luck", "arguments": {}}
                ]
            ),
            "calls 'assert_luck', which the assistant's toolkit has not",
        ),
        (
            with_criteria(
                env_assertions=[
                    {"env_type": "user", "func_name": "assert_task_status", "arguments": {}}
                ]
            ),
            "calls 'assert_task_status', which the user's toolkit has not",
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
            "calls '__init__', which the assistant's toolkit has not",
        ),
        (
            with_criteria(reward_basis=["DB", "NL_ASSERTION"]),
            "needs an LLM judge, which this package has not",
        ),
    ],
)
def test_tasks_that_cannot_be_played(row, problem, tmp_path):
    assert problem in problem_of(write(tmp_path, [row]))


def test_everything_that_is_wrong_with_a_row_is_said(tmp_path):
    row = with_criteria(
        actions=[{"action_id": "0", "name": "crate_task", "arguments": {}}],
        reward_basis=["NL_ASSERTION"],
    )
    found = problem_of(write(tmp_path, [{**row, "db_path": "none.json"}]))
    assert all(
        part in found for part in ("none.json: no such file", "'crate_task'", "NL_ASSERTION")
    )


def test_a_domain_without_solo_mode(tmp_path):
    path = public_set(tmp_path)
    assert problem_of(path, 1, solo_mode=True) == "line 1: domain airline has no solo mode"
    assert problem_of(path, 4, solo_mode=True) == ""


def test_the_digest_is_that_of_the_file_and_its_databases(tmp_path):
    digests = set()
    for folder, title, user in (
        ("a", "Lunch", "ann"),
        ("b", "Dinner", "ann"),
        ("c", "Lunch", "bob"),
    ):
        path = write(
            tmp_path / folder,
            [mock_entry("ann", title, db_path="db/mock.json")],
            mock=mock_db(user),
        )
        digests.add(tasks.tasks_file_digest(path, "mock"))
        assert tasks.tasks_file_digest(path, "mock") in digests
    assert len(digests) == 3


def test_names_in_messages():
    assert tasks.task_label({"tasks_file": "/a.jsonl", "row": 3}, "mock") == "task /a.jsonl:3"
    assert (
        tasks.task_label({"task_id": "x"}, "mock")
        == tasks.task_label({"task_id": "x", "db_path": "y"}, "mock")
        == "mock task 'x'"
    )
