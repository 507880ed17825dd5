"""Data sets of tau2 tasks: splits and tasks files, filters, and the rows that workers get."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("datasets")

from pydantic import ValidationError

from examples.tau2.data.dataset import BadTasks, TaskFilter, absolute_path, task_rows, tau2_dataset
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import read_tasks_file
from examples.tau2.episode import environment
from tests.own_tasks import entry, mock_db, mock_entry, public_set, write


@pytest.mark.parametrize(
    "domain, path, count",
    [
        ("airline", "tau2/train", 30),
        ("airline", "tau2/test", 20),
        ("retail", "tau2/base", 114),
        ("telecom", "tau2/small", 20),
        ("telecom", "tau2/full", 2285),
        ("mock", "tau2/base", len(environment.load_tasks("mock"))),
    ],
)
def test_splits_are_tau2s(domain, path, count):
    ids = [row["task_id"] for row in task_rows(domain, path)]
    assert len(ids) == len(set(ids)) == count


def test_solo_mode_keeps_the_tasks_with_a_ticket(tmp_path):
    solo = {row["task_id"] for row in task_rows("mock", "tau2/base", True)}
    tasks = environment.load_tasks("mock").values()
    assert solo == {task.id for task in tasks if environment.playable_solo(task)}
    assert len(task_rows("telecom", "tau2/base", True)) == 114
    path = write(
        tmp_path, [mock_entry("user_1", "Lunch", ticket=None), mock_entry("user_1", "Lunch")]
    )
    assert [row["row"] for row in task_rows("mock", path, True)] == [2]
    assert len(task_rows("mock", path)) == 2


def test_training_repeats_tasks_up_to_a_full_batch(tmp_path):
    rows = [row["task_id"] for row in tau2_dataset("airline", "tau2/train", full_batches_of=16)]
    assert len(rows) == 32 and rows[30:] == rows[:2]
    assert len(tau2_dataset("mock", "tau2/base", full_batches_of=24)) == 24
    assert len(tau2_dataset("airline", "tau2/train", full_batches_of=10)) == 30
    rows = [row["row"] for row in tau2_dataset("mock", public_set(tmp_path), full_batches_of=6)]
    assert rows == [1, 2, 3, 4, 1, 2]


def test_validation_never_repeats_a_task():
    rows = [row["task_id"] for row in tau2_dataset("airline", "tau2/test")]
    assert len(rows) == len(set(rows)) == 20


@pytest.mark.parametrize(
    "domain, path, message",
    [
        ("airline", "tau2/dev", "no split 'dev'; it has: train, test, base"),
        ("mock", "tau2/train", "no split 'train'; it has: base"),
        ("airline", "train", "not of the form tau2/<split>.*nor a tasks file"),
        ("airline", "tau2/", "not of the form"),
        ("airline", "tasks.csv", "not of the form"),
    ],
)
def test_bad_paths(domain, path, message):
    with pytest.raises(ValueError, match=message):
        task_rows(domain, path)


def test_what_is_sent_to_workers_is_an_absolute_path_and_a_number(tmp_path, monkeypatch):
    path = public_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert tau2_dataset("telecom", "tasks.jsonl").to_list() == [
        {"tasks_file": path, "row": n} for n in (1, 2, 3, 4)
    ]
    assert (absolute_path("tasks.jsonl"), absolute_path("tau2/train")) == (path, "tau2/train")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute_path("~/tasks.jsonl") == path


@pytest.mark.parametrize(
    "fields, kept",
    [
        ({"domains": ["airline"]}, [1, 2]),
        ({"domains": ["retail", "mock"]}, [3, 4]),
        ({"min_actions": 2}, [2, 3]),
        ({"max_actions": 1}, [1, 4]),
        ({"min_actions": 1, "max_actions": 1}, [4]),
        ({"domains": ["retail"], "max_actions": 0}, []),
    ],
)
def test_filters(fields, kept, tmp_path):
    path = public_set(tmp_path)
    actions = [
        len(row.task.evaluation_criteria.actions)
        for row in read_tasks_file(path, "mock")[0].values()
    ]
    assert actions == [0, 4, 5, 1]
    if kept:
        assert [row["row"] for row in tau2_dataset("mock", path, **fields)] == kept
    else:
        with pytest.raises(ValueError, match="no task is left, domains .*, max_actions 0"):
            tau2_dataset("mock", path, **fields)


def test_filters_of_splits():
    acting = task_rows("airline", "tau2/base", False, TaskFilter(min_actions=1))
    assert len(acting) == 43
    with pytest.raises(ValueError, match="no task is left, domains"):
        task_rows("airline", "tau2/base", False, TaskFilter(domains=("retail",)))


def test_tasks_are_left_out_by_their_ids(tmp_path):
    airline = TaskFilter(exclude=[7, "9", "2"])
    kept = [row["task_id"] for row in task_rows("airline", "tau2/train", False, airline)]
    # task 2 is in the test split
    assert len(kept) == 28 and not {"7", "9"} & set(kept)
    path = public_set(tmp_path)
    of_episode = f"{path}:3:retail_1"
    rows = task_rows("mock", path, False, TaskFilter(exclude=("airline_1", of_episode)))
    assert [row["row"] for row in rows] == [4]


@pytest.mark.parametrize("path", ["tau2/train", "file"])
def test_an_id_that_is_left_out_must_exist(path, tmp_path):
    path = public_set(tmp_path) if path == "file" else path
    with pytest.raises(ValueError, match="exclude: there is no task '99', 'x'"):
        task_rows("airline", path, False, TaskFilter(exclude=(99, "x")))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"min_action": 1}, "min_action\n.*Extra inputs"),
        ({"domains": "airline"}, "domains\n.*valid tuple"),
        ({"domains": ["bank"]}, "Input should be 'airline', 'retail', 'telecom'"),
        ({"min_actions": -1}, "greater than or equal to 0"),
        ({"max_actions": "many"}, "valid integer"),
    ],
)
def test_bad_fields_of_a_filter_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        TaskFilter(**fields)


def test_all_bad_rows_are_named_at_once_in_order(tmp_path):
    bad = [
        mock_entry("user_1", "Lunch", db_path="none.json"),
        mock_entry("user_1", "Lunch"),
        b"{",
        entry("airline", "1", db_path="../airline.json"),
    ]
    with pytest.raises(BadTasks) as raised:
        task_rows("mock", write(tmp_path, bad))
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "line 1",
        "line 3",
        "line 4",
    ]


def test_of_many_bad_rows_the_first_are_named_and_the_others_counted(tmp_path):
    with pytest.raises(BadTasks) as raised:
        task_rows("mock", write(tmp_path, [mock_entry("ann", "Lunch"), *[b"{"] * 50]))
    assert len(raised.value.problems) == 21 and raised.value.problems[-1] == "and 30 more bad rows"


def test_what_a_filter_leaves_out_may_be_bad_and_is_not_read(tmp_path):
    path = write(
        tmp_path,
        [
            entry("airline", "1", db_path="db/none.json"),
            mock_entry("ann", "Lunch", db_path="db/mock.json"),
        ],
        mock=mock_db("ann"),
    )
    assert [
        row["row"] for row in task_rows("mock", path, False, TaskFilter(domains=("mock",)))
    ] == [2]
    with pytest.raises(BadTasks, match="line 1: database .*none.json: no such file"):
        task_rows("mock", path)


def test_an_empty_file_has_no_task(tmp_path):
    with pytest.raises(ValueError, match="this is empty; a tasks file, .* is wanted"):
        task_rows("mock", write(tmp_path, []))


@pytest.mark.parametrize("name, kind", [("x.txt", "text that is no"), ("x", "an empty folder")])
def test_another_path_that_exists_is_named(tmp_path, name, kind):
    path = tmp_path / name
    path.write_text("words") if path.suffix else path.mkdir()
    with pytest.raises(ValueError, match=rf"nor a tasks file, \*.jsonl or \*.json; it is {kind}"):
        task_rows("mock", str(path))


def test_all_that_episodes_need_is_read_with_the_rows(tmp_path):
    path = public_set(tmp_path)
    rows = task_rows("mock", path)
    for file in Path(tmp_path).rglob("*.json*"):
        os.unlink(file)
    for row in rows:
        found = find_task_row(row, "mock")
        assert environment.make_environment(found.domain, db_path=found.db_path)
    assert task_rows("mock", path) == rows and json.dumps(rows)
