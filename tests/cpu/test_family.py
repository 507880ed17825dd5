"""The family of tasks of `make learn`: what is rewarded, and that the test set is unseen."""

import asyncio
import re

import pytest

from examples.tau2.cpu.family import write_family
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from tests.scripted import replay, say

ECONFIG = Tau2EnvConfig(domain="mock", solo_mode=True)
DONE = ("done", {})


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    write_family(folder)
    return folder


def rows(family, name: str) -> list[TaskRow]:
    return [
        find_task_row(row, "mock") for row in task_rows("mock", str(family / f"{name}.jsonl"), True)
    ]


def reward(row: TaskRow, *calls: tuple[str, dict]) -> float:
    """The reward of an agent that makes these calls and is done."""
    agent = replay([say(None, call) for call in (*calls, DONE)])
    episode = AsyncOrchestrator(ECONFIG, row.task, agent, None, row.db_path)
    asyncio.run(episode.converse())
    return evaluate_episode(
        episode.simulation_run(), row.task, "mock", True, False, row.db_path
    ).reward


def test_what_is_expected_is_rewarded_and_nothing_else_is(family):
    for row in rows(family, "test"):
        actions = row.task.evaluation_criteria.actions
        expected = [(action.name, action.arguments) for action in actions]
        assert reward(row, *expected) == 1
        other = () if expected else (tempting_call(row.task.ticket),)
        assert reward(row, *other) == 0


def tempting_call(ticket: str) -> tuple[str, dict]:
    """The call that a ticket seems to ask for, where the right thing is to do nothing."""
    user = re.search(r"user_\d+", ticket)
    if user:
        return "create_task", {"user_id": user[0], "title": ""}
    task_id = re.search(r"task_\d+", ticket)
    status = re.search("pending|completed", ticket)
    return "update_task_status", {"task_id": task_id[0], "status": status[0]}


def test_the_test_set_shares_nothing_with_what_is_learnt(family):
    said = {}
    for name in ("demonstrations", "train", "test"):
        part = rows(family, name)
        said[name] = {
            "databases": {row.db_path for row in part},
            "tickets": {row.task.ticket for row in part},
            "users": {user for row in part for user in re.findall(r"user_\d+", row.task.ticket)},
            "titles": {title for row in part for title in re.findall(r"'(.+)'", row.task.ticket)},
            "frames": {opening_and_closing(row.task.ticket) for row in part},
        }
    for aspect, values in said["test"].items():
        assert values
        assert not values & (said["demonstrations"][aspect] | said["train"][aspect])


def opening_and_closing(ticket: str) -> tuple[str, str]:
    sentences = ticket.split(".")
    return sentences[0], sentences[-2]


def test_the_staff_of_the_log_was_right_one_time_in_four_where_judgement_is_needed(family):
    tools = {"delete": [], "untitled": [], "withdrawn": []}
    for row in rows(family, "demonstrations"):
        request_type = row.task.id.split(":")[-1].split("_")[0]
        if request_type in tools:
            tools[request_type] += [[call.name for call in row.task.evaluation_criteria.actions]]
    right = {"delete": ["transfer_to_human_agents"], "untitled": [], "withdrawn": []}
    careless = {"delete": [], "untitled": ["create_task"], "withdrawn": ["update_task_status"]}
    for request_type, expected in tools.items():
        assert all(names in (right[request_type], careless[request_type]) for names in expected)
        share = expected.count(right[request_type]) / len(expected)
        assert share == pytest.approx(0.25, abs=0.1)


def test_a_seed_makes_one_family(family, tmp_path):
    for seed, same in ((1, True), (2, False)):
        write_family(tmp_path / str(seed), seed)
        text = (tmp_path / str(seed) / "train.jsonl").read_text()
        assert (text == (family / "train.jsonl").read_text()) is same
