"""The rewards of an episode through AReaL's real proxy server: what AReaL trains on."""

import asyncio
import json
from pathlib import Path

import pytest
from areal.utils.data import concat_padded_tensors

from examples.tau2.agent import Tau2AgentWorkflow
from tests.areal_proxy import Proxy, tool_call
from tests.episodes import BAD_CREATE, CREATE, DONE, SAMPLING, SOLO, TASK, episode, rewards
from tests.own_tasks import mock_entry, write


@pytest.mark.parametrize(
    "discount, expected", [(1.0, [1.0, 1.0]), (0.5, [0.5, 1.0]), (0.0, [0.0, 1.0])]
)
def test_turn_discount_is_what_areal_trains_on(discount, expected):
    interactions = episode([CREATE, DONE], discount=discount)
    assert rewards(interactions) == expected
    tensors = concat_padded_tensors([interaction.to_tensor_dict() for interaction in interactions])
    assert tensors["rewards"].tolist() == expected
    assert (tensors["loss_mask"].sum(1) > 0).all()


LUNCH = mock_entry("user_1", "Lunch")
DINNER = {
    "name": "create_task",
    "arguments": {"user_id": "user_1", "title": "Dinner"},
    "action_id": "1",
}
CREATE_DINNER = tool_call("create_task", json.dumps(DINNER["arguments"]))


def two_actions(folder: Path) -> dict:
    """Write a task that expects two tasks to be created, and return its row."""
    criteria = json.loads(LUNCH["evaluation_criteria"])
    criteria["actions"].append(DINNER)
    return {"tasks_file": write(folder, [{**LUNCH, "evaluation_criteria": criteria}]), "row": 1}


@pytest.mark.parametrize(
    "says, earned",
    [
        # BAD_CREATE is Lunch: one of two actions
        ([BAD_CREATE, CREATE, DONE], [0.2, 0.0, 0.0]),
        ([BAD_CREATE, CREATE_DINNER, CREATE, DONE], [0.2, 0.2, 0.0, 0.0]),
        ([BAD_CREATE, CREATE_DINNER, DONE], [0.2, 0.2, 0.6]),
        # an action earns its reward only once
        ([BAD_CREATE, BAD_CREATE, DONE], [0.2, 0.0, 0.0]),
        ([DONE], [0.0]),
    ],
    ids=["half", "all, and more", "solved", "twice", "nothing"],
)
def test_turns_earn_rewards_for_expected_actions(says, earned, tmp_path):
    interactions = episode(says, {"action_reward": 0.4}, discount=0.0, task=two_actions(tmp_path))
    assert rewards(interactions) == earned
    tensors = concat_padded_tensors([interaction.to_tensor_dict() for interaction in interactions])
    assert tensors["rewards"].tolist() == pytest.approx(earned)
    unshaped = episode(says, discount=0.0, task=two_actions(tmp_path))
    is_solved = sum(earned) == pytest.approx(1.0)
    assert sum(rewards(unshaped)) == float(is_solved)
    assert sum(earned) in (0, 0.2, 0.4, 1.0)


def test_a_failed_episode_is_a_zero():
    assert rewards(episode([BAD_CREATE, DONE])) == [0.0, 0.0]


@pytest.mark.parametrize(
    "malformed, then, expected",
    [
        (tool_call("no_such_tool", "{}"), [CREATE, DONE], [-0.25, 0, 1]),
        ("I create it." + CREATE, [DONE], [-0.25, 1]),
        (tool_call("create_task", '{"user_id": '), [], [-0.25]),
        ("<think>\nnothing to say\n</think>", [], [-0.25]),
        ("Shall I create it?", [], [-0.25]),
    ],
    ids=["unknown tool", "text and call", "unparsable", "empty", "text in solo mode"],
)
def test_format_penalty_is_subtracted_from_the_malformed_turn(
    malformed, then, expected, monkeypatch
):
    # the configs set this, too
    monkeypatch.setenv("SGLANG_FORWARD_UNKNOWN_TOOLS", "1")
    econfig = {"invalid_format_penalty": 0.25}
    # with discount 0 AReaL propagates nothing: these are the rewards of the turns themselves
    assert rewards(episode([malformed, *then], econfig, discount=0.0)) == expected
    returns = [sum(expected[i:]) for i in range(len(expected))]
    assert rewards(episode([malformed, *then], econfig, discount=1.0)) == returns


def test_thinking_before_a_call_is_not_malformed():
    assert rewards(episode(["<think>\nhm\n</think>\n\n" + CREATE, DONE])) == [1.0, 1.0]


def test_thinking_tool_is_offered_and_answered_and_costs_nothing():
    think = tool_call("think", '{"thought": "A task is wanted."}')
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return [think, CREATE, DONE][len(prompts) - 1]

    with Proxy(answer) as proxy:
        workflow = proxy.workflow(Tau2AgentWorkflow({**SOLO, "add_thinking_tool": True}, SAMPLING))
        interactions = asyncio.run(workflow.arun_episode(None, TASK))
    assert rewards(interactions.values()) == [1.0, 1.0, 1.0]
    assert '"think"' in prompts[0] and "Error" not in prompts[1]
    # where it is not offered, it is an unknown tool
    assert rewards(episode([think, CREATE, DONE])) != [1.0, 1.0, 1.0]
