"""Episodes compared with what their tasks expect."""

import asyncio

import pytest
from tau2.data_model.message import AssistantMessage, ToolCall
from tau2.data_model.tasks import Task

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.tasks import find_task_row
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.viewer.comparison import compare_actions, database_differences
from tests.scripted import ground_truth, replay, say


def task(*expected: tuple[str, dict]) -> Task:
    return Task.model_validate(
        {
            "id": "t",
            "user_scenario": {"instructions": "Ask."},
            "evaluation_criteria": {
                "actions": [
                    {"action_id": str(number), "name": name, "arguments": arguments}
                    for number, (name, arguments) in enumerate(expected)
                ]
            },
        }
    )


def calls(*made: tuple[str, dict]) -> list[AssistantMessage]:
    return [
        AssistantMessage(
            role="assistant", tool_calls=[ToolCall(id="", name=name, arguments=arguments)]
        )
        for name, arguments in made
    ]


def compared(expected: list, made: list) -> list[tuple]:
    """Compare calls with expected ones.

    The result has (status, expected arguments, arguments of the call, index of the message).
    """
    found = []
    for action in compare_actions(task(*expected), calls(*made)):
        expected_arguments = action.get("expected", {}).get("arguments")
        done_arguments = action.get("done", {}).get("arguments")
        found.append((action["status"], expected_arguments, done_arguments, action.get("message")))
    return found


def differences_of(info: Tau2RunInfo, task: Task) -> list[dict]:
    return database_differences(info, find_task_row({"task_id": task.id}, info.domain))


def test_actions_are_matched_missing_extra_or_differ_in_their_arguments():
    expected = [("a", {"x": 1}), ("b", {}), ("c", {"y": 1}), ("d", {})]
    made = [("e", {}), ("a", {"x": 1}), ("c", {"y": 2}), ("c", {"y": 3})]
    assert compared(expected, made) == [
        ("extra", None, {}, 0),
        ("matched", {"x": 1}, {"x": 1}, 1),
        ("missing", {}, None, None),
        ("differs", {"y": 1}, {"y": 2}, 2),
        ("missing", {}, None, None),
        ("extra", None, {"y": 3}, 3),
    ]


def test_a_call_counts_once_and_an_exact_match_comes_before_one_that_differs():
    found = compared([("a", {"x": 2}), ("a", {"x": 1})], [("a", {"x": 1}), ("a", {"x": 3})])
    assert found == [
        ("matched", {"x": 1}, {"x": 1}, 0),
        ("differs", {"x": 2}, {"x": 3}, 1),
    ]
    twice = compared([("a", {}), ("a", {})], [("a", {})])
    assert [status for status, *_ in twice] == ["matched", "missing"]


def test_nothing_expected_and_nothing_done():
    assert compared([], []) == [] and compared([], [("a", {})]) == [("extra", None, {}, 0)]
    assert compare_actions(task().model_copy(update={"evaluation_criteria": None}), []) == []


@pytest.mark.parametrize("domain", ["airline", "retail", "telecom"])
def test_databases_differ_where_tau2_says_so_and_nowhere_else(domain):
    """The agent does all expected actions of a task but one, which differs from task to task."""
    tasks = [
        task for task in environment.load_tasks(domain).values() if task.evaluation_criteria.actions
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
