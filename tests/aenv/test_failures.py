"""Failures of an episode: the policy's own score 0, all others raise, and no instance is left."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import openai
import pytest
from agents import AgentsException

from aenv import AEnvError
from aenv.examples.tau2_rl import conversation, sdk_environment, service
from aenv.examples.tau2_rl.agent import run_agent_return_reward
from examples.tau2.episode.failures import ConversationRefused
from tests.aenv.episodes import CREATE, MOCK, play, server_of
from tests.conftest import aenv_instances
from tests.scripted import LLMServer, say
from tests.waiting import until

WITH_USER = {**MOCK, "solo_mode": False}


@pytest.mark.parametrize(
    "data, reason",
    [
        ({"domain": "nowhere", "task_id": "1"}, "must be one of airline"),
        (
            {"domain": "mock", "task_id": "no such task", "solo_mode": True},
            "no task 'no such task'",
        ),
        ({"domain": "airline", "task_id": "0", "solo_mode": True}, "no ticket to be played solo"),
        ({"domain": "airline", "task_id": "0"}, "set TAU2_USER_LLM"),
        ({**MOCK, "max_steps": "many"}, "TAU2_MAX_STEPS"),
    ],
)
def test_an_episode_that_cannot_be_played_says_why(data, reason, aenv_service):
    with pytest.raises(AEnvError, match=reason):
        play(data, [say(None, ("done", {}))])


def test_a_policy_that_fails_scores_0_and_a_server_that_fails_raises(aenv_service):
    error = {
        "message": "maximum context length is 10 tokens",
        "code": "context_length_exceeded",
    }
    too_long = (400, {"error": error})
    only_stop_tokens = (
        500,
        {"error": {"message": "... cannot strip stop tokens without removing entire output"}},
    )
    for failure in (too_long, only_stop_tokens):
        assert play(MOCK, [say(None, CREATE), failure])[0] == 0.0
        with pytest.raises(openai.APIStatusError):
            play(MOCK, [failure])
    with pytest.raises(ConversationRefused, match="invalid tool name"):
        play(MOCK, [say(None, CREATE), (400, {"error": {"message": "invalid tool name"}})])
    with pytest.raises(openai.OpenAIError):
        play(MOCK, [say(None, CREATE), None])


def test_a_user_simulator_that_refuses_raises(aenv_service):
    refusal = (401, {"error": {"message": "no such key"}})
    with pytest.raises(AEnvError, match="UserSimulatorError.*no such key"):
        play(WITH_USER, [say("Hello.")], [refusal])
    with pytest.raises(AEnvError, match="UserSimulatorError.*no such key"):
        play(WITH_USER, [say("Hello.")], [say("Hi."), refusal])


@pytest.mark.parametrize("turn", [say(None, CREATE), say("a message", CREATE)])
def test_an_instance_that_dies_raises(turn, aenv_service):
    def answer(_request: dict) -> dict:
        (instance,) = aenv_instances(aenv_service)
        httpx.delete(f"{aenv_service}:8080/env-instance/{instance['id']}").raise_for_status()
        return turn

    with LLMServer(answer) as policy, pytest.raises((AEnvError, AgentsException)):
        asyncio.run(run_agent_return_reward(MOCK, **server_of(policy)))


def test_no_service_raises(monkeypatch):
    monkeypatch.setenv("AENV_SYSTEM_URL", "http://127.3.2.38")
    monkeypatch.setattr(conversation, "RETRIES", 0)
    with pytest.raises(AEnvError, match="http://127.3.2.38:8080.*connection.*AENV_SYSTEM_URL"):
        play(MOCK, [say(None, CREATE)])


def test_a_service_that_does_not_answer_raises_and_is_asked_once(monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 1.0)
    monkeypatch.setenv("AENV_SYSTEM_URL", "http://127.3.2.38")
    with socket.create_server(("127.3.2.38", 8080)) as server:
        with pytest.raises(RuntimeError, match="no instance ready within 2 s"):
            play({**MOCK, "timeout": 1}, [say(None, CREATE)])
        server.setblocking(False)
        server.accept()
        with pytest.raises(BlockingIOError):
            server.accept()


def reward_at_a_deadline_of_3_s(answer) -> float:
    # the first instance waits until the service has read tau2's files
    play(MOCK, [say(None, ("done", {}))])
    with LLMServer(answer) as policy:
        data = {**MOCK, "timeout": 3}
        return asyncio.run(run_agent_return_reward(data, **server_of(policy)))


@pytest.mark.parametrize("late", [say(None, CREATE), say("a message", CREATE)])
def test_a_turn_after_the_deadline_scores_0(late, aenv_service):
    answers = iter([say(None, ("get_users", {})), late])

    def answer(_request: dict) -> dict:
        completion = next(answers)
        if completion is late:
            time.sleep(4)
        return completion

    assert reward_at_a_deadline_of_3_s(answer) == 0.0


def test_a_policy_that_hangs_is_scored_0_at_the_deadline(aenv_service, monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 6.0)
    answers = iter([say(None, CREATE)])

    def answer(_request: dict) -> dict | None:
        completion = next(answers, None)
        if completion is None:
            time.sleep(8)
        return completion

    assert reward_at_a_deadline_of_3_s(answer) == 0.0


def test_a_cancelled_episode_is_released(aenv_service):
    async def cancelled() -> None:
        def answer(_request: dict) -> None:
            assert len(aenv_instances(aenv_service)) == 1
            loop.call_soon_threadsafe(task.cancel)
            until(task.done)

        loop = asyncio.get_running_loop()
        with LLMServer(answer) as policy:
            task = asyncio.create_task(run_agent_return_reward(MOCK, **server_of(policy)))
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())


def test_an_episode_cancelled_before_it_knows_its_instance_is_released(aenv_service):
    """The service's answer has come, and nobody has read it yet."""
    is_cancelled, is_to_be_read = threading.Event(), threading.Event()

    def answer(_request: dict) -> None:
        is_cancelled.wait()

    async def cancelled(policy: LLMServer) -> None:
        task = asyncio.create_task(run_agent_return_reward(MOCK, **server_of(policy)))
        while not await asyncio.to_thread(aenv_instances, aenv_service):
            pass
        sdk_environment._sdk_loop().call_soon_threadsafe(is_to_be_read.wait)
        while (await asyncio.to_thread(aenv_instances, aenv_service))[0]["status"] != "Running":
            pass
        task.cancel()
        # the task meets the cancellation
        await asyncio.sleep(0)
        is_to_be_read.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with LLMServer(answer) as policy:
        asyncio.run(cancelled(policy))
        is_cancelled.set()


@pytest.mark.processes
def test_an_instance_plays_one_episode_also_where_it_is_the_only_one(monkeypatch):
    """With DUMMY_INSTANCE_IP the SDK asks no scheduler: all episodes meet the one server."""
    command = [
        sys.executable,
        "-m",
        "aenv.main",
        str(service.ENVIRONMENT_FOLDER),
        "--host",
        "127.0.0.1",
    ]
    variables = {**os.environ, **sdk_environment.environment_variables(MOCK)}
    monkeypatch.setenv("DUMMY_INSTANCE_IP", "127.0.0.1")
    with subprocess.Popen(
        command, env=variables, cwd=service.ROOT, stdout=subprocess.DEVNULL
    ) as server:
        try:
            for data in (
                {**MOCK, "task_id": "create_task_1_nl_eval"},
                {**MOCK, "domain": "telecom"},
            ):
                with pytest.raises(RuntimeError, match="asked for was a new episode"):
                    play(data, [say(None, ("done", {}))])
            assert play(MOCK, [say(None, CREATE), say(None, ("done", {}))])[0] == 1.0
            with pytest.raises(RuntimeError, match="an instance plays one episode"):
                play(MOCK, [say(None, ("done", {}))])
        finally:
            server.kill()
