"""Instances get the episode's settings; the SDK's calls run in an event loop of their own."""

import asyncio
import json
import ssl
import threading

import pytest

from aenv.examples.tau2_rl.conversation import open_conversation
from aenv.examples.tau2_rl.sdk_environment import (
    ENVIRONMENT,
    LLMS,
    BackgroundEnvironment,
    environment_variables,
)
from examples.tau2.episode.network import certificates
from tests.aenv.episodes import CREATE, MOCK, play
from tests.conftest import aenv_instances
from tests.scripted import LLMServer, in_turn, say


def test_without_a_user_llm_episodes_are_solo_and_no_variable_is_none(aenv_service, monkeypatch):
    for name in LLMS:
        monkeypatch.delenv(name, raising=False)
    data = {
        "domain": "mock",
        "task_id": "create_task_1",
        "solo_mode": None,
        "user_llm_args": {"temperature": 0.0},
    }
    assert environment_variables(data) == {
        "TAU2_DOMAIN": "mock",
        "TAU2_TASK_ID": "create_task_1",
        "TAU2_USER_LLM_ARGS": '{"temperature": 0.0}',
    }
    assert play(data, [say(None, CREATE), say(None, ("done", {}))])[0] == 1.0


def test_the_user_llm_of_the_environment_variables_is_asked_and_its_key_shown_to_nobody(
    aenv_service, monkeypatch, capfd
):
    data = {"domain": "mock", "task_id": "create_task_1"}
    # the first instance is for `status_and_instances`
    user = LLMServer(in_turn(say("Create it."), say("Create it."), say("###STOP###")))
    monkeypatch.setenv("TAU2_USER_LLM", "openai/simulator")
    monkeypatch.setenv("TAU2_USER_LLM_API_BASE", user.base_url)
    monkeypatch.setenv("TAU2_USER_LLM_API_KEY", "sk-user-secret")

    async def status_and_instances() -> str:
        async with open_conversation(data) as conversation:
            instance = conversation.environment
            status = await instance.in_background(instance.call_function, "tau2_get_status", {})
            return json.dumps([status, aenv_instances(aenv_service)])

    with user:
        shown = asyncio.run(status_and_instances())
        assert play(data, [say(None, CREATE), say("Done.")])[0] == 1.0
    assert (user.requests[-1]["key"], user.requests[-1]["model"]) == ("sk-user-secret", "simulator")
    printed = "".join(capfd.readouterr())
    assert "sk-user-secret" not in shown + printed


def test_a_row_with_a_database_of_its_own_raises(aenv_service):
    with pytest.raises(ValueError, match="not db_path"):
        play({**MOCK, "db_path": "db.json"}, [say(None, CREATE)])


def test_a_cancelled_call_ends_before_the_next_begins():
    begun = threading.Event()
    seen = []

    async def end_slowly() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            seen.append("cancelled")

    async def next_call() -> None:
        seen.append("next")

    async def calls() -> None:
        instance = BackgroundEnvironment(ENVIRONMENT)
        task = asyncio.create_task(instance.in_background(end_slowly))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await instance.in_background(next_call)

    asyncio.run(calls())
    assert seen == ["cancelled", "next"]


def test_the_sdk_does_not_stop_the_callers_event_loop(aenv_service, monkeypatch):
    """The SDK reads certificates for each call, which takes 30 ms and more."""
    threads = set()
    load = ssl.SSLContext.load_verify_locations

    def record_thread(*arguments, **keywords) -> None:
        threads.add(threading.current_thread())
        load(*arguments, **keywords)

    # the policy's client reads the certificates once in a process
    certificates()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", record_thread)
    assert play(MOCK, [say(None, CREATE), say(None, ("done", {}))])[0] == 1.0
    assert threads and threading.main_thread() not in threads
