"""The environment `tau2-env`, loaded in this process: it plays as `Tau2AgentWorkflow` does."""

import asyncio
import builtins
import io
import json
import re
import runpy
from dataclasses import asdict

import pytest
from aenv.server.mcp_server import create_server

from aenv.examples.tau2_rl import service
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.config import VARIABLES, Tau2EnvConfig
from tests.calls import MODES, base_tasks
from tests.scripted import ground_truth, replay, say

MOCK = {"TAU2_DOMAIN": "mock", "TAU2_TASK_ID": "create_task_1"}


def load(monkeypatch, variables: dict[str, str]) -> dict:
    """Run tau2_env.py as an instance does, and return its global names."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    create_server()
    return runpy.run_path(str(service.ENVIRONMENT_FOLDER / "src" / "tau2_env.py"))


@pytest.fixture
def env(monkeypatch):
    return load(monkeypatch, MOCK)


def new_episode(env: dict, config: Tau2EnvConfig, task_id: str, user: list[dict]):
    episode = env["Episode"](config, task_id)
    episode.workflow.user_llm = replay(user)
    return episode


async def say_all(episode, completions: list[dict]) -> None:
    """Take the agent's turns, until the episode is over."""
    for completion in completions:
        if episode.is_over:
            return
        said = completion["choices"][0]["message"]
        calls = [{"id": call["id"], **call["function"]} for call in said.get("tool_calls") or []]
        await episode.say(said["content"], calls)


@pytest.mark.exhaustive
@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_every_base_task_earns_what_it_does_in_tau2_agent_workflow(domain, solo_mode, env):
    """Each task is played twice: the agent does the expected actions, or nothing."""
    config = Tau2EnvConfig(domain, solo_mode=solo_mode, user_llm="scripted")
    workflow = Tau2AgentWorkflow(asdict(config))

    async def both() -> list[float]:
        rewards = []
        for task in base_tasks(domain, solo_mode):
            end = say(None, ("done", {})) if solo_mode else say("Bye.")
            nothing = ([end], [say("Hello."), say("###STOP###")])
            for agent_turns, user_turns in (ground_truth(task, solo_mode), nothing):
                workflow.user_llm = replay(user_turns)
                expected = await workflow.play_with(replay(agent_turns), {"task_id": task.id})
                episode = new_episode(env, config, task.id, user_turns)
                await say_all(episode, agent_turns)
                got = await episode.reward()
                assert got["total_reward"] == expected.reward and got["steps"] == expected.steps
                assert got["reward_info"] == expected.simulation.reward_info.model_dump(mode="json")
                rewards.append(got["total_reward"])
        return rewards

    rewards = asyncio.run(both())
    assert min(rewards) < max(rewards) == 1.0


def test_a_turn_reads_no_file(env, monkeypatch):
    """tau2's own gym reads the file of all tasks at each step."""
    task = base_tasks("telecom", True)[0]
    config = Tau2EnvConfig("telecom", solo_mode=True)

    async def played() -> float:
        episode = new_episode(env, config, task.id, [])
        await say_all(episode, ground_truth(task, True)[0])
        return (await episode.reward())["total_reward"]

    def refuse(*arguments, **keywords):
        raise AssertionError(f"opened {arguments}")

    asyncio.run(played())
    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    assert asyncio.run(played()) == 1.0


def test_status_and_prompt_tell_what_the_agent_has_not_seen(env):
    async def watched() -> None:
        config = Tau2EnvConfig("mock", user_llm="scripted", max_steps=7, timeout=60)
        episode = new_episode(env, config, "create_task_1", [say("Create it."), say("###STOP###")])
        status = await episode.status()
        system = {"role": "system", "content": episode.system_prompt}
        greeting = {"role": "assistant", "content": "Hi! How can I help you today?"}
        assert status == {
            "domain": "mock",
            "task_id": "create_task_1",
            "solo_mode": False,
            "max_steps": 7,
            "timeout": 60,
            "turns": 0,
            "done": False,
            "messages": [system, greeting, {"role": "user", "content": "Create it."}],
        }
        assert "<policy>" in episode.system_prompt and "<ticket>" not in episode.system_prompt
        with pytest.raises(RuntimeError, match="not over: the agent is to speak, after 0 turns"):
            await episode.reward()
        await say_all(episode, [say(None, ("get_users", {}), ("get_users", {}))])
        status = await episode.status()
        assert [message["role"] for message in status["messages"]] == ["tool", "tool"]
        assert status["turns"] == 1
        await say_all(episode, [say("Bye.")])
        assert (await episode.status())["done"]
        assert (await episode.reward())["termination"] == "user_stop"
        await episode.say("Still there?", [])
        assert (await episode.status())["turns"] == 2

    asyncio.run(watched())


def test_an_episode_that_its_user_ends_before_it_begins_is_rejected(env):
    async def begin() -> None:
        config = Tau2EnvConfig("mock", user_llm="scripted")
        await new_episode(env, config, "create_task_1", [say("###STOP###")]).status()

    with pytest.raises(EpisodeRejected, match="before the agent's first completion"):
        asyncio.run(begin())


def test_calls_that_came_as_text_are_told_with_the_reward(env):
    async def hints(completion: dict) -> list[str]:
        config = Tau2EnvConfig("mock", solo_mode=True)
        episode = new_episode(env, config, "create_task_1", [])
        await say_all(episode, [completion])
        return (await episode.reward())["hints"]

    (hint,) = asyncio.run(hints(say('<tool_call>{"name": "create_task"}</tool_call>')))
    assert "--tool-call-parser" in hint
    assert asyncio.run(hints(say(None, ("done", {})))) == []


def test_tools_have_tau2s_schemas(monkeypatch):
    """The schemas of nested arguments, as airline has them, are not rewritten either."""
    task = environment.task_splits("airline")["base"][0]
    load(monkeypatch, {"TAU2_DOMAIN": "airline", "TAU2_TASK_ID": task, "TAU2_USER_LLM": "any"})
    from aenv.core import get_function_registry

    tools = asyncio.run(get_function_registry().get_server().list_tools())
    functions = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in tools
    ]
    assert functions == [
        schema["function"] for schema in environment.agent_schemas("airline", False, False)
    ]
    assert "$defs" in json.dumps(functions)


def test_read_settings(env):
    read_settings = env["read_settings"]
    assert read_settings(MOCK) == (Tau2EnvConfig("mock", solo_mode=True), "create_task_1")
    user = {
        "TAU2_USER_LLM": "m",
        "TAU2_USER_LLM_API_BASE": "http://u",
        "TAU2_USER_LLM_ARGS": '{"temperature": 0}',
    }
    judge = {
        "TAU2_JUDGE_LLM": "j",
        "TAU2_JUDGE_LLM_API_BASE": "http://j",
        "TAU2_JUDGE_LLM_ARGS": '{"temperature": 1}',
    }
    given = {
        "TAU2_MAX_STEPS": "9",
        "TAU2_TIMEOUT": "1.5",
        "TAU2_ADD_THINKING_TOOL": "true",
        "TAU2_SOLO_MODE": "",
        "TAU2_TURN_DISCOUNT": "0.9",
        "TAU2_INVALID_FORMAT_PENALTY": "0.2",
        "TAU2_ACTION_REWARD": "0.3",
        "TAU2_REJECT_ON_TIMEOUT": "true",
    }
    config = Tau2EnvConfig(
        *("mock", 9, True, False, "http://u", "m", {"temperature": 0}),
        *("http://j", "j", {"temperature": 1}),
        *(0.9, 0.2, 0.3, 1.5, True),
    )
    assert read_settings(MOCK | user | judge | given) == (config, "create_task_1")
    assert set(VARIABLES.values()) == {"TAU2_DOMAIN"} | user.keys() | judge.keys() | given.keys()
    assert read_settings(MOCK | user | {"TAU2_SOLO_MODE": "true"})[0].solo_mode


@pytest.mark.parametrize(
    "variables, problem",
    [
        (
            {"TAU2_DOMAIN": "nowhere"},
            "TAU2_DOMAIN is 'nowhere', but must be one of airline, retail, telecom, mock",
        ),
        ({"TAU2_TASK_ID": ""}, "TAU2_TASK_ID is not set"),
        ({"TAU2_TASK_ID": "none such"}, "TAU2_TASK_ID: domain 'mock' has no task 'none such'"),
        (
            {"TAU2_MAX_STEPS": "many", "TAU2_SOLO_MODE": "so"},
            "TAU2_MAX_STEPS: .*; TAU2_SOLO_MODE: ",
        ),
        ({"TAU2_USER_LLM_ARGS": "{"}, "TAU2_USER_LLM_ARGS is not JSON"),
        ({"TAU2_JUDGE_LLM_ARGS": "{"}, "TAU2_JUDGE_LLM_ARGS is not JSON"),
        (
            {"TAU2_DOMAIN": "airline", "TAU2_TASK_ID": "0"},
            "airline task '0' has no ticket .* set TAU2_USER_LLM",
        ),
        (
            {
                "TAU2_DOMAIN": "retail",
                "TAU2_TASK_ID": "0",
                "TAU2_SOLO_MODE": "true",
                "TAU2_USER_LLM": "m",
            },
            "no ticket",
        ),
    ],
)
def test_settings_without_an_episode_end_the_instance_with_the_reason(
    variables, problem, env, monkeypatch
):
    with pytest.raises(ValueError, match=problem):
        env["read_settings"](MOCK | variables)
    with pytest.raises(SystemExit, match=problem):
        load(monkeypatch, MOCK | variables)


def test_a_task_that_needs_a_judge(env, monkeypatch):
    task = environment.find_task("mock", "create_task_1").model_copy(deep=True)
    task.evaluation_criteria.reward_basis = ["NL_ASSERTION"]
    monkeypatch.setattr(environment, "find_task", lambda domain, task_id: task)
    with pytest.raises(ValueError, match="mock task 'create_task_1': set TAU2_JUDGE_LLM"):
        env["read_settings"](MOCK)
    config, _ = env["read_settings"](MOCK | {"TAU2_JUDGE_LLM": "j"})
    assert config.judge_llm == "j"


def test_the_files_that_the_image_is_built_from_exist():
    dockerfile = (service.ENVIRONMENT_FOLDER / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)
    assert sources and all((service.ROOT / source).exists() for source in sources)
    config = json.loads((service.ENVIRONMENT_FOLDER / "config.json").read_text())
    assert (config["name"], config["version"]) == ("tau2-env", "1.0.0")
    assert (service.ROOT / config["buildConfig"]["dockerfile"]).exists()
