"""Tickets of solo mode say all that the agent must know."""

import pytest

from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.episode.solo_tickets import completed_ticket, count_completed
from tests.scripted import ground_truth, replay

SENTENCE = "They agree to refuel 2.0 GB of data if this is needed."


def tasks_of(split: str):
    ids = environment.task_splits("telecom")[split]
    return [environment.find_task("telecom", task_id) for task_id in ids]


@pytest.mark.parametrize("split, number", [("train", 23), ("test", 7), ("base", 30)])
def test_the_tickets_that_hide_a_refuel_are_completed(split, number):
    tasks = tasks_of(split)
    changed = [task for task in tasks if completed_ticket(task) != task.ticket]
    assert len(changed) == count_completed(tasks) == number
    for task in changed:
        assert completed_ticket(task) == f"{task.ticket} {SENTENCE}"
        assert "You are willing to refuel 2.0 GB of data" in str(task.user_scenario)
    for task in tasks:
        refuels = any(action.name == "refuel_data" for action in environment.expected_actions(task))
        assert not refuels or "refuel" in completed_ticket(task)


def system_prompt(task, solo_mode: bool) -> str:
    agent_says, user_says = ground_truth(task, solo_mode)
    config = Tau2EnvConfig(domain="telecom", solo_mode=solo_mode)
    episode = AsyncOrchestrator(config, task, replay(agent_says), replay(user_says))
    return episode.agent.history[0]["content"]


def test_only_solo_mode_shows_the_sentence_and_the_task_stays_as_it_is():
    task = next(task for task in tasks_of("test") if completed_ticket(task) != task.ticket)
    ticket = task.ticket
    assert f"{ticket} {SENTENCE}\n</ticket>" in system_prompt(task, True)
    assert SENTENCE not in system_prompt(task, False)
    assert task.ticket == ticket


def test_a_task_without_a_ticket_gets_none():
    assert completed_ticket(environment.find_task("airline", "0")) is None
