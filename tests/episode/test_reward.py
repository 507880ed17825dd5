"""Evaluation in our environments against tau2's own, for many conversations on each base task."""

import asyncio
import json
import random
import re
import traceback
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tau2.data_model.message import AssistantMessage, Message, ToolCall, UserMessage
from tau2.data_model.simulation import RewardInfo, SimulationRun, TerminationReason
from tau2.data_model.tasks import Task
from tau2.environment.environment import Environment
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.reward import evaluate_episode, matched_actions
from tests.calls import (
    EVERY_TASK_OF_MODES,
    altered,
    base_tasks,
    contents,
    expected_calls,
    random_calls,
    register_stock,
    stock,
    untimed_messages,
)
from tests.scripted import ground_truth, replay, say

# a conversation, and the hashes of both databases after it
Played = tuple[list[Message], tuple[str | None, str | None]]


@pytest.mark.parametrize("domain, solo_mode", EVERY_TASK_OF_MODES)
def test_results_hashes_and_rewards_are_stock_tau2s(domain, solo_mode, tmp_path):
    """All conversations of a task are played at the same time, a call of each in turn.

    tau2 takes a second to evaluate an airline episode. So the databases of airline and retail are
    cut to what the tasks mention, and some of the rest; test_simulation.py has the whole ones.
    """
    db_path = cut_database(domain, tmp_path) if domain in ("airline", "retail") else None
    before = contents(environment.make_environment(domain, db_path=db_path))
    compared, rewards = 0, set()
    for seed, task in enumerate(base_tasks(domain, solo_mode)):
        stock_domain = register_stock(domain, db_path, task)
        evaluator = partial(stock_reward, solo_mode=solo_mode, domain=stock_domain)
        reads = environment.logged_reads(task)
        behaviours = list(behaviours_of(task, domain, solo_mode, seed))
        theirs = [
            play_in_turn([play(stock(domain, solo_mode, db_path, task), task, calls)])[0]
            for calls in behaviours
        ]
        mine = play_in_turn(
            play(
                environment.make_environment(domain, solo_mode, False, db_path, reads), task, calls
            )
            for calls in behaviours
        )
        for calls, (their_messages, _), (my_messages, _) in zip(
            behaviours, theirs, mine, strict=True
        ):
            assert untimed_messages(my_messages) == untimed_messages(their_messages), (
                task.id,
                calls,
            )
            reward = evaluate_episode(
                simulation(my_messages, task), task, domain, solo_mode, False, db_path
            )
            expected = evaluator(simulation(their_messages, task), task)
            assert reward == expected or (expected is None and reward.reward == 0.0), (
                task.id,
                calls,
            )
            compared += 1
            rewards.add(reward.reward)
        assert equalities(mine) == equalities(theirs), task.id
    assert compared > 30 and rewards == {0.0, 1.0}
    assert contents(environment.make_environment(domain, db_path=db_path)) == before


def behaviours_of(task: Task, domain: str, solo_mode: bool, seed: int) -> Iterator[list[ToolCall]]:
    """Make conversations on a task, as lists of calls.

    One has the expected calls. In two others, one of them is left out, or altered. Two have random
    calls, and one has none.
    """
    expected = expected_calls(task, solo_mode)
    rng = random.Random(seed)
    yield expected
    if expected:
        number = rng.randrange(len(expected))
        before, call, after = expected[:number], expected[number], expected[number + 1 :]
        yield before + after
        if call.arguments:
            yield [*before, altered(call, domain, rng), *after]
    yield random_calls(domain, solo_mode, seed, 12)
    yield [*random_calls(domain, solo_mode, -1 - seed, 4), *expected]
    yield []


def play(env: Environment, task: Task, calls: list[ToolCall]) -> Generator[None, None, Played]:
    """Play a conversation with these calls; each `next` makes one of them."""
    state = task.initial_state
    messages = list((state and state.message_history) or [])
    if state is not None:
        env.set_state(state.initialization_data, state.initialization_actions, messages)
    for call in calls:
        said = AssistantMessage if call.requestor == "assistant" else UserMessage
        messages += [said(role=call.requestor, tool_calls=[call]), env.get_response(call)]
        env.sync_tools()
        yield
    told = " ".join(task.evaluation_criteria.communicate_info or [])
    messages.append(
        AssistantMessage(role="assistant", content=f"Done. {told if len(calls) % 2 else ''}")
    )
    return messages, (env.get_db_hash(), env.get_user_db_hash())


def play_in_turn(plays: Iterable[Generator[None, None, Played]]) -> list[Played]:
    """Play conversations at the same time, a call of each in turn."""
    pending = dict(enumerate(plays))
    played: dict[int, Played] = {}
    while pending:
        for number, generator in list(pending.items()):
            try:
                next(generator)
            except StopIteration as stop:
                played[number] = stop.value
                del pending[number]
    return [played[number] for number in sorted(played)]


def equalities(played: list[Played]) -> list[tuple[bool, bool]]:
    """Tell for each pair of conversations whether they leave equal databases."""
    equal = []
    for _, (agent_hash, user_hash) in played:
        for _, (other_agent_hash, other_user_hash) in played:
            equal.append((agent_hash == other_agent_hash, user_hash == other_user_hash))
    return equal


def simulation(messages: list[Message], task: Task) -> SimulationRun:
    return SimulationRun(
        id="x",
        task_id=task.id,
        start_time="",
        end_time="",
        duration=0.0,
        termination_reason=TerminationReason.AGENT_STOP,
        messages=messages,
    )


def stock_reward(run: SimulationRun, task: Task, solo_mode: bool, domain: str) -> RewardInfo | None:
    """Evaluate an episode by tau2's own evaluator; None where an assertion makes tau2 raise.

    For us such an assertion is not met.
    """
    try:
        return evaluate_simulation(run, task, EvaluationType.ALL, solo_mode, domain)
    except Exception as error:
        assert "run_env_assertion" in [
            frame.name for frame in traceback.extract_tb(error.__traceback__)
        ]
        return None


def cut_database(domain: str, folder: Path) -> str:
    """Write the domain's database, cut to the items that its base tasks need; returns the path.

    It keeps the items that the tasks mention, those that these mention, and some of the rest.
    """
    db = stock(domain).tools.db.model_dump(mode="json")
    text = json.dumps([task.model_dump(mode="json") for task in base_tasks(domain, False)])
    for _ in range(2):
        names = set(re.findall(r"[\w#-]+", text))
        mentioned = {
            name: {key: table[key] for key in table if key in names} for name, table in db.items()
        }
        text += json.dumps(mentioned)
    for name, table in mentioned.items():
        table |= {key: db[name][key] for key in list(db[name])[::40]}
    path = folder / "db.json"
    path.write_text(json.dumps(mentioned))
    return str(path)


@pytest.mark.parametrize("domain", ["airline", "telecom"])
def test_matched_actions_are_those_of_tau2s_own_check(domain):
    workflow = Tau2AgentWorkflow({"domain": domain, "user_llm": "scripted"})
    found = set()
    acting = [task for task in base_tasks(domain, False) if task.evaluation_criteria.actions]
    for number, task in enumerate(acting[:60]):
        agent, user = ground_truth(task)
        del agent[len(agent) // 2 : len(agent) // 2 + number % 3]
        workflow.user_llm = replay(user)
        info = asyncio.run(
            workflow.play_with(replay([*agent, say("Anything else?")] * 2), {"task_id": task.id})
        )
        checks = info.simulation.reward_info.action_checks
        assert info.actions_matched == pytest.approx(
            sum(check.action_match for check in checks) / len(checks)
        ), task.id
        assert matched_actions(task, info.simulation.messages).keys() <= {
            turn.completion_id for turn in info.turns
        }
        found.add(round(info.actions_matched, 2))
    assert 1.0 in found and len(found) > 3
