"""Scripts of dialogs: what is said in them, and what happens when they are played."""

import asyncio
from dataclasses import replace

import pytest
from tau2.data_model.simulation import NLAssertionCheck
from tau2.data_model.tasks import RewardType

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.dialogs import (
    USER_STOP,
    DialogScript,
    play_script,
    script_of_episode,
    script_of_expected_actions,
)
from examples.tau2.data.recorded import RecordedEpisode
from examples.tau2.data.tasks import find_task_row
from examples.tau2.episode.config import Tau2EnvConfig
from tests.scripted import replay, say

CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
SOLO = Tau2EnvConfig(domain="mock", solo_mode=True)
WITH_USER = Tau2EnvConfig(domain="mock")


def script(econfig: Tau2EnvConfig) -> DialogScript:
    row = find_task_row({"task_id": "create_task_1"}, "mock")
    return script_of_expected_actions(econfig, row)


def episode(*said: dict) -> RecordedEpisode:
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    info = asyncio.run(workflow.play_with(replay(list(said)), {"task_id": "create_task_1"}))
    row = find_task_row({"task_id": "create_task_1"}, "mock")
    return RecordedEpisode(SOLO, row, info.simulation)


def called(entries: list[dict]) -> list[str | None]:
    """The tool that each message calls; None for a message without calls."""
    calls = [entry.get("tool_calls") for entry in entries]
    return [found[0]["function"]["name"] if found else None for found in calls]


def test_a_script_of_expected_actions_has_a_user_unless_it_is_solo():
    solo, talk = script(SOLO), script(WITH_USER)
    assert called(solo.agent) == ["create_task", "done"] and solo.user == []
    assert called(talk.agent) == ["create_task", None] and called(talk.user) == [None, None]
    assert talk.user[-1]["content"] == USER_STOP


def test_instructions_that_name_the_token_of_the_end_do_not_end_the_dialog():
    row = find_task_row({"task_id": "create_task_1"}, "mock")
    scenario = row.task.user_scenario.model_copy(
        update={"instructions": "You want a task. At the end say ###STOP###."}
    )
    task = row.task.model_copy(update={"user_scenario": scenario})
    scripted = script_of_expected_actions(WITH_USER, replace(row, task=task))
    assert asyncio.run(play_script(scripted)).reward == 1.0


def test_an_expected_action_without_a_tool_is_left_out():
    row = find_task_row({"task_id": "create_task_1"}, "mock")
    task = row.task.model_copy(deep=True)
    action = task.evaluation_criteria.actions[0].model_copy(update={"name": "get_item_details"})
    task.evaluation_criteria.actions.insert(0, action)
    played = script_of_expected_actions(SOLO, replace(row, task=task))
    assert called(played.agent) == ["create_task", "done"]


def test_the_user_is_asked_for_the_users_actions():
    row = find_task_row({"task_id": "create_task_1"}, "mock")
    task = row.task.model_copy(deep=True)
    task.evaluation_criteria.actions[0].requestor = "user"
    asked = script_of_expected_actions(WITH_USER, replace(row, task=task))
    assert asked.agent[0]["content"] == "Please create task."
    assert called(asked.user) == [None, "create_task", None, None]


@pytest.mark.parametrize("econfig", [SOLO, WITH_USER], ids=["solo", "with a user"])
def test_a_dialog_that_leaves_its_script_ends_without_the_reward(econfig):
    full = script(econfig)
    assert asyncio.run(play_script(full)).reward == 1.0
    # the user waits for a call that the agent never makes
    cut = replace(full, agent=[], user=full.user[:1])
    dialog = asyncio.run(play_script(cut))
    assert dialog.reward < 1.0 and dialog.turns == []


def test_the_recorded_verdicts_on_todays_assertions_count():
    recorded = episode(say(None, CREATE), say(None, ("done", {})))
    check = NLAssertionCheck(nl_assertion="It is kind.", met=True, justification="")
    recorded.simulation.reward_info.nl_assertions = [check]
    task = recorded.row.task.model_copy(deep=True)
    criteria = task.evaluation_criteria
    criteria.reward_basis, criteria.nl_assertions = [RewardType.NL_ASSERTION], ["It is kind."]
    today = replace(recorded, row=replace(recorded.row, task=task))
    assert asyncio.run(play_script(script_of_episode(today))).reward == 1.0
    criteria.nl_assertions = ["It is quick."]
    with pytest.raises(ValueError, match="need the verdicts of a judge"):
        asyncio.run(play_script(script_of_episode(today)))


def test_scripts_of_the_same_words_have_the_same_key_whatever_their_ids():
    first, second = (episode(say(None, CREATE), say(None, ("done", {}))) for _ in range(2))
    other = episode(say("I create it.", CREATE), say(None, ("done", {})))
    keys = [script_of_episode(info).content_key() for info in (first, second, other)]
    assert keys[0] == keys[1] != keys[2]
    assert first.simulation.id != second.simulation.id
