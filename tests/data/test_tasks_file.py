"""Tasks files: what is read of them, and rows that are no tasks."""

import json
import os
from pathlib import Path

import pytest
import tau2.utils

from examples.tau2.data.files import WrongFile
from examples.tau2.data.tasks import find_task_row, unplayable_tasks
from examples.tau2.data.tasks_file import read_tasks_file, tasks_file_digest
from examples.tau2.episode import environment
from tests.own_tasks import mock_db, mock_entry, problem_of, public_set, write


def test_rows_of_several_domains_with_their_databases(tmp_path):
    path = public_set(tmp_path)
    rows = [
        find_task_row({"tasks_file": path, "row": number}, "telecom") for number in (1, 2, 3, 4)
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
    criteria = environment.find_task("airline", "8").evaluation_criteria
    assert rows[1].task.evaluation_criteria == criteria
    shared = [environment.databases(row.domain, row.db_path) for row in rows[:2]]
    assert shared[0] is shared[1]


# banking_knowledge's tasks.json differs from the files of single tasks, which tau2 reads
@pytest.mark.parametrize("domain", [name for name in environment.DOMAINS if "_" not in name])
def test_tau2s_own_tasks_json(domain):
    path = Path(tau2.utils.DATA_DIR) / f"tau2/domains/{domain}/tasks.json"
    rows, unreadable = read_tasks_file(str(path), domain)
    assert unreadable == {} and {row.domain for row in rows.values()} == {domain}
    assert {row.db_path for row in rows.values()} == {None}
    for number, (row, task) in enumerate(
        zip(rows.values(), environment.load_tasks(domain).values(), strict=True), 1
    ):
        assert row.task.id == f"{path}:{number}:{task.id}"
        assert row.task.model_copy(update={"id": task.id}) == task
    assert unplayable_tasks(rows, domain in environment.SOLO_DOMAINS) == {}


def test_the_domain_is_the_configs_where_the_task_names_none(tmp_path):
    plain = mock_entry("user_1", "Lunch", user_scenario={"instructions": "You want lunch."})
    structured = mock_entry("user_1", "Lunch")
    del structured["user_scenario"]["instructions"]["domain"]
    path = write(tmp_path, [plain, structured, mock_entry("user_1", "Lunch")])
    rows, unreadable = read_tasks_file(path, "retail")
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
    row = find_task_row({"tasks_file": path, "row": 1}, "mock")
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
    rows, unreadable = read_tasks_file(path, "mock")
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
    rows, unreadable = read_tasks_file(path, "mock")
    assert list(rows) == [1, 3] and list(unreadable) == [2] and problem in unreadable[2]


def test_a_bad_entry_of_an_array_is_named_by_its_number_and_line(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([GOOD, [], {"id": "a"}, GOOD], indent=2))
    rows, unreadable = read_tasks_file(str(path), "mock")
    assert list(rows) == [1, 4]
    lines = path.read_text().split("\n")
    second = lines.index("  [],") + 1
    assert unreadable[2].startswith(f"task 2, line {second}: no ")
    # the third entry begins in the line after the second
    assert unreadable[3].startswith(f"task 3, line {second + 1}: no ")


@pytest.mark.parametrize(
    "content, problem",
    [("[{}", "no JSON: Expecting ',' delimiter: line 1"), ("[" * 10**5, "no JSON")],
)
def test_an_array_that_is_no_json(content, problem, tmp_path):
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(ValueError, match=problem):
        read_tasks_file(str(tmp_path / "tasks.json"), "mock")


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
    rows = read_tasks_file(through, "mock")[0].values()
    assert (
        len({row.db_path for row in rows}) == 1
        and [problem_of(through, n) for n in (1, 2, 3)] == [""] * 3
    )


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
        digests.add(tasks_file_digest(path, "mock"))
        assert tasks_file_digest(path, "mock") in digests
    assert len(digests) == 3


@pytest.mark.parametrize(
    "content, kind",
    [
        ("", "empty"),
        (json.dumps(mock_entry("ann", "Lunch"), indent=1), "one JSON object over many lines, with"),
        (
            json.dumps({"tasks": [mock_entry("ann", "Lunch")]}, indent=1),
            "one JSON object over many",
        ),
        (json.dumps({"tasks": [mock_entry("ann", "Lunch")]}), "JSON with the fields tasks"),
        ('{"info": {"git_commit": "x"}, "tasks": []}', "tau2's results"),
        ('{"messages": [], "answer": {}}\n' * 300, "a file of turns"),
        ('{"prompt": "x"}\n' * 300, "JSON with the fields prompt"),
        ("{'id': '1'}\n" * 300, "JSON with an error"),
        ('[{"prompt": "x"}, {}]', "JSON, an array of objects with the fields prompt"),
        ("id,ticket\n", "text that is no JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, content, kind):
    path = tmp_path / "tasks.jsonl"
    path.write_text(content)
    with pytest.raises(WrongFile, match=f"^this is {kind}.*; a tasks file, JSONL .* is wanted$"):
        read_tasks_file(str(path), "mock")
