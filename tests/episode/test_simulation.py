"""Our asynchronous conversations against tau2's own orchestrator, with the same scripted LLMs."""

import asyncio
import random

import litellm
import pytest
import tau2.utils.llm_utils
from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent
from tau2.data_model.simulation import SimulationRun
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
from tau2.orchestrator.orchestrator import Orchestrator
from tau2.user.user_simulator import DummyUser, UserSimulator

from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from tests.calls import (
    EVERY_TASK_OF_MODES,
    base_tasks,
    register_stock,
    stock,
    stock_user_tools,
    untimed_messages,
)
from tests.scripted import ground_truth, replay, say


def theirs(
    domain, task, solo_mode, agent_says, user_says, monkeypatch, **limits
) -> tuple[SimulationRun, float]:
    """Play and evaluate an episode as tau2 does, with a scripted `litellm.completion`.

    The model's name tells agent and user apart.
    """
    queues = {"agent": iter(agent_says), "user": iter(user_says)}
    monkeypatch.setattr(
        tau2.utils.llm_utils,
        "completion",
        lambda model, **_: litellm.ModelResponse(**next(queues[model])),
    )
    env = stock(domain, solo_mode, task=task)
    user_tools = stock_user_tools(env, task)
    if solo_mode:
        agent = LLMSoloAgent(
            env.get_tools() + (user_tools or []), env.get_policy(), task, llm="agent"
        )
        user = DummyUser()
    else:
        agent = LLMAgent(env.get_tools(), env.get_policy(), llm="agent")
        user = UserSimulator(tools=user_tools, instructions=str(task.user_scenario), llm="user")
    run = Orchestrator(domain, agent, user, env, task, solo_mode=solo_mode, **limits).run()
    stock_domain = register_stock(domain, task=task)
    try:
        evaluation = evaluate_simulation(run, task, EvaluationType.ALL, solo_mode, stock_domain)
    except ValueError as error:
        # an assertion on a task that was never created, which we count as not met
        assert str(error) == "Task task_2 not found"
        return run, 0.0
    return run, evaluation.reward


def ours(domain, task, solo_mode, agent_says, user_says, **limits) -> tuple[SimulationRun, float]:
    config = Tau2EnvConfig(domain=domain, solo_mode=solo_mode, **limits)
    episode = AsyncOrchestrator(config, task, replay(agent_says), replay(user_says))
    asyncio.run(episode.converse())
    run = episode.simulation_run()
    return run, evaluate_episode(run, task, domain, solo_mode, thinking_tool=False).reward


def assert_same(
    domain, task, solo_mode, agent_says, user_says, monkeypatch, **limits
) -> SimulationRun:
    expected, expected_reward = theirs(
        domain, task, solo_mode, agent_says, user_says, monkeypatch, **limits
    )
    run, reward = ours(domain, task, solo_mode, agent_says, user_says, **limits)
    assert untimed_messages(run.messages) == untimed_messages(expected.messages)
    assert [message.turn_idx for message in run.messages] == [
        message.turn_idx for message in expected.messages
    ]
    assert run.termination_reason == expected.termination_reason
    assert reward == expected_reward
    return run


@pytest.mark.parametrize("domain, solo_mode", EVERY_TASK_OF_MODES)
def test_every_base_task_as_tau2_plays_it(domain, solo_mode, monkeypatch):
    """A third of the tasks is as expected, a third lacks an action, a third has faulty turns."""
    variations = random.Random(domain)
    seen = set()
    for number, task in enumerate(base_tasks(domain, solo_mode)):
        agent, user = ground_truth(task, solo_mode)
        if number % 3 == 1:
            actions = [turn for turn in agent[:-1] if "tool_calls" in turn["choices"][0]["message"]]
            left_out = variations.sample(actions, min(1, len(actions)))
            agent = [turn for turn in agent if turn not in left_out]
        if number % 3 == 2:
            faults = [
                say(None, ("no_such_tool", {"x": 1})),
                say("Let me see.", ("transfer_to_human_agents", {"summary": "s"})),
                say(
                    None,
                    ("transfer_to_human_agents", {}),
                    ("transfer_to_human_agents", {"summary": "s"}),
                ),
            ]
            agent[0:0] = variations.sample(faults, 2)
        run = assert_same(domain, task, solo_mode, agent, user, monkeypatch)
        seen.add(run.termination_reason.value)
    assert seen & {"user_stop", "agent_stop"}


@pytest.mark.parametrize("max_steps", [1, 2, 3, 7])
@pytest.mark.parametrize("domain, solo_mode", [("mock", False), ("mock", True), ("telecom", False)])
def test_max_steps_as_tau2_counts_them(domain, solo_mode, max_steps, monkeypatch):
    task = (
        environment.find_task(domain, "create_task_1")
        if domain == "mock"
        else base_tasks(domain, False)[0]
    )
    endless = [say(None, ("transfer_to_human_agents", {"summary": str(i)})) for i in range(9)]
    agent, user = endless, [say(f"And {i}?") for i in range(9)]
    run = assert_same(domain, task, solo_mode, agent, user, monkeypatch, max_steps=max_steps)
    assert run.termination_reason.value == "max_steps"


@pytest.mark.parametrize("solo_mode", [False, True])
def test_too_many_errors_as_tau2_counts_them(solo_mode, monkeypatch):
    task = environment.find_task("mock", "create_task_1")
    agent = [
        say(None, *[("create_task", {"user_id": "nobody", "title": "t"})] * 3) for _ in range(9)
    ]
    run = assert_same("mock", task, solo_mode, agent, [say("Hello")], monkeypatch)
    assert run.termination_reason.value == "too_many_errors"


def test_tool_calls_of_the_user_and_premature_stops(monkeypatch):
    task = base_tasks("telecom", False)[0]
    user = [
        say("Hi"),
        say(None, ("check_status_bar", {}), ("no_such_tool", {})),
        say("So?"),
        say("###TRANSFER###"),
    ]
    agent = [say("Check your status bar."), say("I see.")]
    run = assert_same("telecom", task, False, agent, user, monkeypatch)
    assert run.termination_reason.value == "user_stop"
    assert [message.error for message in run.messages if message.role == "tool"] == [False, True]


def test_histories_hold_what_each_side_may_see():
    """The user's tool messages are in the user's history only; telecom cannot do without them."""
    requests = {"agent": [], "user": []}

    def recorded(name, completions):
        call = replay(completions)

        async def record(messages, tools, tool_choice, **sampling):
            requests[name].append([dict(message) for message in messages])
            return await call(messages, tools, tool_choice)

        return record

    task = base_tasks("telecom", False)[0]
    agent = recorded(
        "agent", [say("Check."), say(None, ("get_details_by_id", {"id": "L1001"})), say("I see.")]
    )
    user = recorded(
        "user",
        [say("Hi"), say(None, ("check_status_bar", {})), say("Bars: none."), say("###STOP###")],
    )
    episode = AsyncOrchestrator(Tau2EnvConfig(domain="telecom"), task, agent, user)
    asyncio.run(episode.converse())
    agent_roles = [message["role"] for message in requests["agent"][-1]]
    assert agent_roles == ["system", "assistant", "user", "assistant", "user", "assistant", "tool"]
    user_roles = [message["role"] for message in requests["user"][-1]]
    assert user_roles == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert "tool_calls" not in requests["user"][-1][2] and requests["user"][-1][4]["tool_calls"]


def test_thinking_stays_in_the_agents_history_and_out_of_the_conversation():
    task = environment.find_task("mock", "create_task_1")
    said = []
    call = replay([say("<think>\nhm\n</think>\n\nWhat title?"), say("Done.")])

    async def agent(messages, tools, tool_choice, **sampling):
        said.append([dict(message) for message in messages])
        return await call(messages, tools, tool_choice)

    user = replay([say("Create a task."), say("<think>fine</think>Important."), say("###STOP###")])
    episode = AsyncOrchestrator(Tau2EnvConfig(domain="mock"), task, agent, user)
    asyncio.run(episode.converse())
    assert said[-1][3]["content"] == "<think>\nhm\n</think>\n\nWhat title?"
    assert [message.content for message in episode.trajectory][2:4] == ["What title?", "Important."]
