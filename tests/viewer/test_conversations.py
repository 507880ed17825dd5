"""What the page shows of an episode."""

import asyncio
import dataclasses

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.tasks_file import read_tasks_file
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.viewer.conversations import conversation, episode_entry
from tests.own_tasks import mock_entry, write
from tests.scripted import replay, say
from tests.viewer.runs import TASKS, play, solved, unsolved


def test_the_step_of_an_episode_is_that_of_the_statistics():
    trained = solved(TASKS[0], weight_version=3, is_eval=False)
    evaluated = solved(TASKS[0], weight_version=3, is_eval=True)
    assert episode_entry(trained, None)["step"] == 4
    assert episode_entry(evaluated, None)["step"] == 3
    trial = episode_entry(solved(TASKS[0]), 2)
    assert trial.items() >= {"purpose": "eval", "step": 0, "trial": 2}.items()


def test_a_conversation_comes_with_rewards_format_errors_actions_and_databases():
    shown = conversation(unsolved(TASKS[1]))
    turns = shown["messages"][::2]
    assert [turn.get("malformed") for turn in turns] == ["unknown_tool", None, None]
    assert [turn.get("reward") for turn in turns] == [-0.1, None, 0.0]
    assert [action["status"] for action in shown["actions"]] == ["missing", "extra", "extra"]
    by_path = {difference["path"]: difference for difference in shown["database"]}
    status = by_path["agent.tasks.task_1.status"]
    assert (status["expected"], status["left"]) == ('"completed"', '"pending"')
    assert len(by_path) == len(shown["database"])
    assert "problem" not in shown and conversation(solved(TASKS[0]))["database"] == []


def test_an_episode_of_a_task_that_is_gone_is_shown_with_the_reason():
    shown = conversation(dataclasses.replace(solved(TASKS[0]), task_id="gone"))
    assert "gone" in shown["problem"] and shown["messages"] and "actions" not in shown


def test_an_episode_of_other_tasks_of_tau2_is_not_compared_with_todays():
    other = dataclasses.replace(tau2_source(["mock"]), tasks={"mock": "0123456789abcdef"})
    shown = conversation(solved(TASKS[0], tau2=other))
    assert f"it is a task of {other}; set TAU2_DATA_DIR" in shown["problem"]
    assert shown["messages"] and "actions" not in shown


def test_numbers_are_shown_as_they_are():
    numbers = {"n": 12345678901234567890, "f": 1.0}
    shown = conversation(play(TASKS[0], [say(None, ("x", numbers)), say(None, ("done", {}))]))
    (call,) = shown["messages"][0]["calls"]
    assert call["brief"] == "n=12345678901234567890, f=1.0"


def test_a_tasks_file_that_has_changed_is_named(tmp_path):
    path = write(tmp_path, [mock_entry("user_1", "Lunch", id="first")])
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    llm = replay([say(None, ("done", {}))])
    info = asyncio.run(workflow.play_with(llm, {"tasks_file": path, "row": 1}))
    assert [action["status"] for action in conversation(info)["actions"]] == ["missing"]
    write(tmp_path, [mock_entry("user_1", "Dinner", id="second")])
    read_tasks_file.cache_clear()
    shown = conversation(info)
    assert "has changed" in shown["problem"] and "actions" not in shown
