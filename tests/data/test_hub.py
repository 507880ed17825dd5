"""Files of the hub: their names, copies and errors, against a hub on loopback."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from examples.tau2.data.dataset import task_rows
from examples.tau2.data.hub import HubError, local_path, pinned
from examples.tau2.data.tasks import dataset_row, find_task_row, own_id
from examples.tau2.data.tasks_file import read_tasks_file, tasks_file_digest
from examples.tau2.data.turns import read_turns
from examples.tau2.episode import environment
from tests.hub import Hub, forget, lunches, running_hub, use
from tests.own_tasks import mock_entry

TASKS = "hf://datasets/ann/lunches/tasks.jsonl"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    with running_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def test_tasks_are_played_with_their_databases_and_named_by_the_commit(hub, tmp_path):
    commit = hub.commit("ann/lunches", lunches("Lunch", "Dinner"))
    name = f"hf://datasets/ann/lunches@{commit}/tasks.jsonl"
    rows = task_rows("mock", TASKS)
    assert rows == ({"tasks_file": name, "row": 1}, {"tasks_file": name, "row": 2})
    row = find_task_row(rows[1], "mock")
    assert (row.task.id, own_id(row.task)) == (f"{name}:2:mock_1", "mock_1")
    assert dataset_row(row.task.id) == rows[1]
    assert "ann" in environment.make_environment("mock", db_path=row.db_path).tools.db.users
    assert len(tasks_file_digest(name, "mock")) == 16
    assert hub.downloads == ["tasks.jsonl", "mock.json"]


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub):
    first = hub.commit("ann/lunches", lunches("Lunch"))
    second = hub.commit("ann/lunches", lunches("Dinner"), branch="refs/pr/1")
    of = "hf://datasets/ann/lunches@{}/tasks.jsonl".format
    assert pinned(TASKS) == pinned(of("main")) == pinned(of(first)) == of(first)
    assert pinned(of("refs%2Fpr%2F1")) == of(second)
    assert b"Dinner" in Path(local_path(of(second))).read_bytes()


def test_the_hub_is_asked_once_and_a_pinned_file_is_read_without_it(hub, monkeypatch):
    commit = hub.commit("ann/lunches", lunches("Lunch"))
    rows = task_rows("mock", TASKS)
    hub.commit("ann/lunches", lunches("Dinner"))
    # in this process, the commit stays
    assert commit in pinned(TASKS)
    forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert task_rows("mock", TASKS) == task_rows("mock", rows[0]["tasks_file"]) == rows
    forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # nothing listens at this port
    use("http://127.0.0.1:9", monkeypatch)
    assert task_rows("mock", TASKS) == rows
    forget()
    use(hub.endpoint, monkeypatch)
    # a process with a network follows the branch, and one with the pinned name does not
    assert commit not in pinned(TASKS)
    assert task_rows("mock", rows[0]["tasks_file"]) == rows
    assert hub.downloads == ["tasks.jsonl", "mock.json", "tasks.jsonl"]


def test_threads_at_once_download_a_file_once(hub):
    hub.commit("ann/lunches", lunches("Lunch"))
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(local_path, [TASKS] * 4))
    assert len(set(paths)) == 1 and hub.downloads == ["tasks.jsonl"]


def test_a_database_is_found_from_the_folder_of_its_file(hub):
    files = {f"rl/{name}": content for name, content in lunches("Lunch").items()}
    files["secret.json"] = b"{}"
    rows = [
        json.dumps(mock_entry("ann", "Lunch", db_path=path))
        for path in ("./db/../db/mock.json", "../secret.json", "/rl/secret.json", "")
    ]
    files["rl/tasks.jsonl"] = "\n".join(rows).encode()
    hub.commit("ann/lunches", files)
    found, problems = read_tasks_file("hf://datasets/ann/lunches/rl/tasks.jsonl", "mock")
    assert list(found) == [1]
    assert problems == {
        number: f"line {number}: db_path {path!r} leads out of the file's folder"
        for number, path in enumerate(["../secret.json", "/rl/secret.json", ""], 2)
    }
    hub.commit("ann/lunches", lunches("Lunch", db_path="db/none.json"))
    with pytest.raises(HubError, match="the data set ann/lunches has no file db/none.json"):
        task_rows("mock", "hf://datasets/ann/lunches@main/tasks.jsonl")


def test_turns(hub):
    metadata = {"source_dialog_id": "mock_1", "correct": 1, "reward": 1.0}
    turn = {
        "messages": [{"role": "user", "content": "Hello"}],
        "answer": {"role": "assistant", "content": "Hello!"},
        "metadata": metadata,
    }
    hub.commit("ann/dialogs", {"turns.jsonl": json.dumps(turn).encode()})
    read = read_turns("hf://datasets/ann/dialogs/turns.jsonl", lambda turn: turn.answer["content"])
    assert read == ["Hello!"]


MALFORMED = (
    "the URL of a file on the hub is hf://datasets/<owner>/<name>[@<revision>]/<file>, and the "
    "file is *.jsonl or *.json"
)


@pytest.mark.parametrize(
    "url, problem",
    [
        ("hf://ann/lunches/tasks.jsonl", MALFORMED),
        ("hf://spaces/ann/lunches/tasks.jsonl", MALFORMED),
        ("hf://datasets/ann/lunches", MALFORMED),
        ("hf://datasets/lunches/tasks.jsonl", MALFORMED),
        ("hf://datasets/ann/lunches@/tasks.jsonl", MALFORMED),
        ("hf://datasets/ann/lunches/../tasks.jsonl", MALFORMED),
        ("hf://datasets/ann/lunches/tasks.parquet", MALFORMED),
        ("hf://datasets/ann/lun--ches/tasks.jsonl", "ann/lun--ches is no name of a data set"),
        ("hf://datasets/ann/dinners/tasks.jsonl", "{hub} has no data set ann/dinners, or it is "
         "private: correct the name, or set HF_TOKEN"),
        ("hf://datasets/ann/lunches@v2/tasks.jsonl", "the data set ann/lunches has no revision v2"),
        ("hf://datasets/ann/lunches/rl.jsonl", "the data set ann/lunches has no file rl.jsonl"),
        ("hf://datasets/ann/gated/tasks.jsonl", "the data set ann/gated is gated: ask for access "
         "at {hub}/datasets/ann/gated, and set HF_TOKEN"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_url(hub, url, problem):
    hub.commit("ann/lunches", lunches("Lunch"))
    hub.gated.add("ann/gated")
    with pytest.raises(HubError) as error:
        pinned(url)
    assert str(error.value) == problem.format(hub=hub.endpoint)
    with pytest.raises(ValueError):
        task_rows("mock", url)


def test_a_hub_that_does_not_give_the_file(hub, monkeypatch):
    hub.commit("ann/lunches", lunches("Lunch"))
    hub.token = "hf_other"
    with pytest.raises(HubError, match=r"does not give tasks.jsonl \(check HF_TOKEN\): .*401"):
        pinned(TASKS)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="has no data set ann/lunches, or it is private"):
        pinned(TASKS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    lacks = "tasks.jsonl, and the hub's cache on this machine does not have it"
    with pytest.raises(HubError, match=f"HF_HUB_OFFLINE=1 forbids to download {lacks}"):
        pinned(TASKS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # nothing listens at this port
    use("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(HubError, match=f"http://127.0.0.1:9 does not give {lacks}"):
        pinned(TASKS)
