"""The databases that episodes left, compared with those that their tasks expect."""

import asyncio

import pytest
from tau2.data_model.tasks import Task

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.tasks import find_task_row
from examples.tau2.episode import environment
from examples.tau2.episode.judge import needs_judge
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.viewer.differences import database_differences
from tests.scripted import ground_truth, replay, say


def differences_of(info: Tau2RunInfo, task: Task) -> list[dict]:
    return database_differences(info, find_task_row({"task_id": task.id}, info.domain))


@pytest.mark.parametrize("domain", [name for name in environment.DOMAINS if name != "mock"])
def test_databases_differ_where_tau2_says_so_and_nowhere_else(domain):
    """The agent does all expected actions of a task but one, which differs from task to task."""
    tasks = [
        task
        for task in environment.load_tasks(domain).values()
        if task.evaluation_criteria.actions and not needs_judge(task)
    ]
    workflow = Tau2AgentWorkflow({"domain": domain, "user_llm": "scripted"})
    seen = set()
    for number, task in enumerate(tasks[:120]):
        agent, user = ground_truth(task)
        left_out = [
            at for at, said in enumerate(agent) if said["choices"][0]["message"].get("tool_calls")
        ]
        if left_out:
            del agent[left_out[-1 - number % len(left_out)]]
        workflow.user_llm = replay(user)
        info = asyncio.run(workflow.play_with(replay(agent), {"task_id": task.id}))
        check = info.simulation.reward_info.db_check
        differences = differences_of(info, task)
        assert check.db_match == (not differences), task.id
        assert all({"expected", "left"} & difference.keys() for difference in differences)
        seen.add(check.db_match)
    assert seen == {True, False}


def test_a_difference_names_the_database_the_path_and_both_values():
    task = environment.find_task("mock", "update_task_1")
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    wrong = [
        say(None, ("update_task_status", {"task_id": "task_1", "status": "pending"})),
        say(None, ("create_task", {"user_id": "user_1", "title": "More"})),
        say(None, ("done", {})),
    ]
    info = asyncio.run(workflow.play_with(replay(wrong), {"task_id": task.id}))
    found = {tuple(difference.pop("path")): difference for difference in differences_of(info, task)}
    assert found[("agent", "tasks", "task_1", "status")] == {
        "expected": "completed",
        "left": "pending",
    }
    assert found[("agent", "tasks", "task_2")]["left"]["title"] == "More"
    assert "expected" not in found[("agent", "tasks", "task_2")]
    assert found[("agent", "users", "user_1", "tasks", 1)] == {"left": "task_2"}


def test_a_conversation_that_cannot_be_replayed_says_so():
    task = environment.find_task("mock", "create_task_1")
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    says = [
        say(None, ("create_task", {"user_id": "user_1", "title": "Another"})),
        say(None, ("done", {})),
    ]
    info = asyncio.run(workflow.play_with(replay(says), {"task_id": task.id}))
    info.simulation.messages[1].content = "something else"
    with pytest.raises(ValueError, match="something else"):
        differences_of(info, task)
