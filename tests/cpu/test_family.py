"""The family of tasks of `make learn`: what is rewarded, and what the test set has in common with the rest: nothing."""

import asyncio
import re

import pytest

from examples.tau2.cpu.family import write_family
from examples.tau2.data import tasks
from examples.tau2.data.dataset import task_rows
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


def rows(family, name: str) -> list[tasks.TaskRow]:
    return [
        tasks.find_task_row(row, "mock")
        for row in task_rows("mock", str(family / f"{name}.jsonl"), True)
    ]


def reward(row: tasks.TaskRow, *calls: tuple[str, dict]) -> float:
    """Of an agent that makes these calls and is done."""
    agent = replay([say(None, call) for call in (*calls, DONE)])
    episode = AsyncOrchestrator(ECONFIG, row.task, agent, None, row.db_path)
    asyncio.run(episode.converse())
    return evaluate_episode(
        episode.simulation_run(), row.task, "mock", True, False, row.db_path
    ).reward


def test_what_is_expected_is_rewarded_and_nothing_else_is(family):
    for row in rows(family, "test"):
        expected = [
            (action.name, action.arguments) for action in row.task.evaluation_criteria.actions
        ]
        assert reward(row, *expected) == 1
        if expected:
            assert reward(row) == 0
        else:  # to do what the ticket seems to ask for is wrong
            user, task, status = (
                re.search(what, row.task.ticket)
                for what in (r"user_\d+", r"task_\d+", "pending|completed")
            )
            create = ("create_task", {"user_id": user and user[0], "title": ""})
            update = (
                "update_task_status",
                {"task_id": task and task[0], "status": status and status[0]},
            )
            assert reward(row, create if user else update) == 0


def test_the_test_set_shares_nothing_with_what_is_learnt(family):
    said = {}
    for name in ("demonstrations", "train", "test"):
        part = rows(family, name)
        said[name] = {
            "databases": {row.db_path for row in part},
            "tickets": {row.task.ticket for row in part},
            "users": {user for row in part for user in re.findall(r"user_\d+", row.task.ticket)},
            "titles": {title for row in part for title in re.findall(r"'(.+)'", row.task.ticket)},
            "wordings": {
                (row.task.ticket.split(".")[0], row.task.ticket.split(".")[-2]) for row in part
            },
        }
    for aspect, values in said["test"].items():
        assert values
        assert not values & (said["demonstrations"][aspect] | said["train"][aspect])


def test_a_seed_makes_one_family(family, tmp_path):
    for seed, same in ((1, True), (2, False)):
        write_family(tmp_path / str(seed), seed)
        text = (tmp_path / str(seed) / "train.jsonl").read_text()
        assert (text == (family / "train.jsonl").read_text()) is same
