"""What went wrong in episodes, beside what their tasks expect."""

import asyncio

import pytest

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.failure_kinds import FAILURE_KINDS, is_write
from tests.scripted import ground_truth, replay, say

CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
LUNCH = ("create_task", {"user_id": "user_1", "title": "Lunch"})
TRANSFER = ("transfer_to_human_agents", {"summary": "Too hard."})
# airline's task that expects one write, and that the agent names an amount
AIRLINE_TASK = "11"


def play(
    domain: str, task_id: str, agent: list[dict], user: list[dict] | None = None, **econfig
) -> list[str]:
    """Play an episode, in solo mode without a user, and return its kinds of failure."""
    workflow = Tau2AgentWorkflow(
        {"domain": domain, "solo_mode": not user, "user_llm": "scripted", **econfig}
    )
    workflow.user_llm = replay(user or [])
    info = asyncio.run(workflow.play_with(replay(agent), {"task_id": task_id}))
    statistics = info.statistics()
    shown = [kind for kind in FAILURE_KINDS if statistics[f"failure/{kind}"]]
    assert shown == info.failure_kinds and bool(shown) == (info.reward < 1)
    return shown


def solo(*calls: tuple[str, dict], **econfig) -> list[str]:
    """Play mock's `create_task_1`, which expects `CREATE`, in solo mode."""
    says = [say(None, call) for call in (*calls, ("done", {}))]
    return play("mock", "create_task_1", says, **econfig)


def test_a_solved_episode_has_no_kind_of_failure():
    assert solo(CREATE) == []
    assert solo(("no_such_tool", {}), CREATE) == []


@pytest.mark.parametrize(
    "calls, kinds",
    [
        ([], ["missing_write"]),
        ([("no_such_tool", {})], ["unknown_tool", "missing_write"]),
        ([LUNCH], ["wrong_arguments"]),
        ([CREATE, LUNCH], ["extra_write"]),
        ([TRANSFER], ["unneeded_transfer", "missing_write"]),
    ],
)
def test_kinds_of_failure(calls, kinds):
    assert solo(*calls) == kinds


def test_a_write_that_failed_is_not_extra():
    failing = ("update_task_status", {"task_id": "no_such_task", "status": "completed"})
    assert solo(failing, LUNCH) == ["wrong_arguments"]


def test_a_write_that_leaves_the_expected_state_is_not_extra():
    update = say(None, ("update_task_status", {"task_id": "task_2", "status": "completed"}))
    says = [update, update, say("Done.")]
    user = [say("Hello."), say("###STOP###")]
    assert play("mock", "update_task_with_initialization_data", says, user) == ["not_communicated"]


def test_an_extra_write_of_the_user_is_no_failure_of_the_agent():
    task_id = environment.task_splits("telecom")["small"][0]
    user = [say("My data is off."), say(None, ("toggle_airplane_mode", {})), say("###STOP###")]
    kinds = play("telecom", task_id, [say("Toggle it.")], user)
    assert kinds == ["user_stopped_early", "missing_write"]


def test_an_expected_write_that_failed_is_missing():
    # without arguments, the call matches by tau2's comparison, but it is an error
    empty = ("create_task", {})
    assert solo(empty) == ["missing_write"]
    assert solo(empty, CREATE) == []
    assert solo(empty, CREATE, LUNCH) == ["extra_write"]
    assert solo(empty, CREATE, max_steps=3) == ["max_steps"]


def test_an_episode_that_used_up_its_steps_may_have_done_all_that_was_expected():
    assert solo(CREATE, ("get_users", {}), max_steps=2) == ["max_steps"]
    assert solo(*[("get_users", {})] * 3, max_steps=2) == ["missing_write", "max_steps"]


def test_an_unsolved_episode_without_a_known_kind_is_called_other():
    assert play("mock", "create_task_1", [say(None, CREATE), say("Done.")]) == ["other"]


@pytest.mark.parametrize(
    "without, last_words, kinds",
    [
        ([], "###STOP###", []),
        (["told"], "###STOP###", ["not_communicated"]),
        (["write"], "Thanks! ###STOP###", ["user_stopped_early", "missing_write"]),
        (["write"], "###OUT-OF-SCOPE###", ["missing_write"]),
        (
            ["write", "told"],
            "###TRANSFER###",
            ["unneeded_transfer", "missing_write", "not_communicated"],
        ),
    ],
)
def test_kinds_of_failure_in_a_conversation(without, last_words, kinds):
    agent, _ = ground_truth(environment.find_task("airline", AIRLINE_TASK))
    written = [said for said in agent if "update_reservation_flights" in str(said)]
    assert len(written) == 1
    if "write" in without:
        agent.remove(written[0])
    if "told" in without:
        agent[-1] = say("All done.")
    user = [say("Hello, I need help."), say(last_words)]
    assert play("airline", AIRLINE_TASK, agent, user) == kinds


def test_a_transfer_that_the_task_expects_is_needed():
    says = [say(None, TRANSFER), say(None, LUNCH), say("Goodbye.")]
    user = [say("Hello."), say("###TRANSFER###")]
    assert play("mock", "impossible_task_1", says, user) == ["extra_write"]


@pytest.mark.parametrize(
    "domain, writes, others",
    [
        ("telecom", ["refuel_data", "reboot_device"], ["get_data_usage", "run_speed_test"]),
        ("airline", ["book_reservation"], ["calculate", "transfer_to_human_agents", "unknown"]),
    ],
)
def test_tools_that_write_are_those_of_the_agent_and_of_the_user(domain, writes, others):
    assert all(is_write(domain, tool) for tool in writes)
    assert not any(is_write(domain, tool) for tool in others)
