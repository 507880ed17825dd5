"""Measures the CPU time of single episodes; the LLMs are functions, so there is no HTTP."""

import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from openai.types.chat import ChatCompletion
from tau2.domains.airline.data_model import FlightDB
from tau2.domains.airline.utils import AIRLINE_DB_PATH

from benchmarks.event_loop import run_timed
from benchmarks.stock_tau2 import stock_tau2
from examples.tau2 import agent
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment, llm
from tests.scripted import ground_truth, say


@dataclass
class ScriptedEpisode:
    """A task, and what its agent and its user say, as completions in JSON."""

    task_id: str
    agent: list[dict]
    user: list[dict]


def some_task_ids(domain: str, number: int) -> list[str]:
    """Return the ids of `number` base tasks, evenly spaced."""
    task_ids = environment.task_splits(domain)["base"]
    return task_ids[:: max(1, len(task_ids) // number)][:number]


def expected_episode(domain: str, task_id: str) -> ScriptedEpisode:
    """Make an episode in which agent and user do what the task expects of them."""
    return ScriptedEpisode(task_id, *ground_truth(environment.find_task(domain, task_id)))


def cpu(domain: str, way: str, task_ids: list[str]) -> list[float]:
    """Measure the CPU ms of each episode, in the way "tau2" or "ours".

    The episodes are played one after the other. The time is that of the whole workflow, in all its
    threads.
    """
    episodes = [expected_episode(domain, task_id) for task_id in task_ids]
    with stock_tau2() if way == "tau2" else nullcontext():
        return _cpu_ms(domain, episodes)


def cpu_per_turn(turns: int) -> float:
    """Measure the CPU ms per turn of an episode in which the agent has `turns` turns.

    Every other turn is a tool call. The time includes the evaluation.
    """
    user_ids = list(airline_database()["users"])[: turns // 2]
    agent_says = []
    user_says = [say("Hello, it's me.")]
    for user_id in user_ids:
        agent_says.append(say(None, ("get_user_details", {"user_id": user_id})))
        agent_says.append(say(f"Your identity, {user_id}, is confirmed."))
        user_says.append(say("Please look once more."))
    # the last answer ends the episode
    user_says[-1] = say("###STOP###")
    (task_id,) = some_task_ids("airline", 1)
    times = _cpu_ms("airline", [ScriptedEpisode(task_id, agent_says, user_says)] * 10)
    return statistics.median(times) / turns


def cpu_of_copies(copies: int) -> float:
    """Measure the CPU ms per airline episode with a database of `copies` copies."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "db.json")
        path.write_text(json.dumps(copied_airline(copies)))
        task_ids = some_task_ids("airline", 25)
        episodes = [expected_episode("airline", task_id) for task_id in task_ids]
        return statistics.median(_cpu_ms("airline", episodes, str(path)))


def airline_database() -> dict[str, dict]:
    return FlightDB.load(str(AIRLINE_DB_PATH)).model_dump(mode="json")


def copied_airline(copies: int) -> dict[str, dict]:
    """Make airline's database with `copies` copies of its flights, users and reservations.

    Each copy has keys and airports of its own, so that all tools return what they do on one copy.
    """
    database = airline_database()
    airports = set()
    for flight in database["flights"].values():
        airports |= {flight["origin"], flight["destination"]}
    text = json.dumps(database)
    merged = {name: dict(table) for name, table in database.items()}
    for number in range(1, copies):
        copy = text
        for airport in sorted(airports):
            copy = copy.replace(f'"{airport}"', f'"{airport}{number}"')
        for name, table in json.loads(copy).items():
            for key, item in table.items():
                merged[name][f"{key}-{number}"] = item
    return merged


def _cpu_ms(
    domain: str, episodes: list[ScriptedEpisode], db_path: str | None = None
) -> list[float]:
    """Measure the CPU ms of each of the episodes, after a first one to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        return run_timed(_play_one_by_one(domain, episodes, db_path, folder))


async def _play_one_by_one(
    domain: str, episodes: list[ScriptedEpisode], db_path: str | None, folder: str
) -> list[float]:
    econfig = {"domain": domain, "user_llm": "user", "max_steps": 1000}
    workflow = Tau2AgentWorkflow(econfig, output_dir=folder)
    prepared = []
    for episode in episodes:
        data = {"task_id": episode.task_id, "db_path": db_path}
        prepared.append((data, _parsed(episode.agent), _parsed(episode.user)))
    times = []
    for data, agent_says, user_says in [prepared[0], *prepared]:
        workflow.user_llm = _replay(user_says)
        agent_llm = _replay(agent_says)
        with patch.object(agent, "served_llm", return_value=agent_llm):
            start = time.process_time()
            await workflow.run(data, "http://127.0.0.1:9", "none")
            times.append((time.process_time() - start) * 1e3)
    return times[1:]


def _parsed(completions: list[dict]) -> list[ChatCompletion]:
    return [ChatCompletion.model_validate(completion) for completion in completions]


def _replay(completions: list[ChatCompletion]) -> llm.CallLLM:
    """Make an LLM that says these completions in turn, without the cost of parsing them."""
    queue = iter(completions)

    async def call(*_: Any, **__: Any) -> ChatCompletion:
        return next(queue)

    return call
