"""Episodes by the Agents SDK in instances of a local service, which the AEnvironment SDK asks for: what the policy is shown,
what comes of what it does, and every fault."""

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import openai
import pytest
from agents import AgentsException

from aenv import AEnvError
from aenv.examples.tau2_rl import agent, service
from aenv.examples.tau2_rl.agent import run_agent_return_reward
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode.llm import ssl_context
from tests.calls import base_tasks
from tests.conftest import aenv_instances
from tests.scripted import LLMServer, ground_truth, in_turn, say

MOCK = {"domain": "mock", "task_id": "create_task_1", "solo_mode": True}
CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
ODD_TURNS = [
    say("Let me see.", ("get_users", {})),
    say(None, ("get_users", {}), ("get_users", {})),
    say(None, ("no_such_tool", {"a": 1})),
    say(None, ("get_users", {}), ("no_such_tool", {})),
    say(None, ("create_task", {"user_id": "nobody", "title": "\ud800"})),
]


def play(
    data: dict, answers: list, user: list | None = None, **arguments
) -> tuple[float, list[dict]]:
    """The reward, and the requests that the policy's server got."""
    with (
        LLMServer(in_turn(*answers)) as policy,
        LLMServer(in_turn(*(user or [say("###STOP###")]))) as simulator,
    ):
        if user:
            data = {**data, "user_llm_base_url": simulator.base_url}
        server = {"base_url": policy.base_url, "api_key": "key", "model": "m"}
        return asyncio.run(run_agent_return_reward(data, **server, **arguments)), policy.requests


def play_directly(data: dict, answers: list, user: list | None = None) -> tuple[float, list[dict]]:
    with (
        LLMServer(in_turn(*answers)) as policy,
        LLMServer(in_turn(*(user or [say("###STOP###")]))) as simulator,
    ):
        econfig = {key: value for key, value in data.items() if key != "task_id"}
        if user:
            econfig["user_llm_base_url"] = simulator.base_url
        info = asyncio.run(Tau2AgentWorkflow(econfig).play(data, policy.base_url, "key"))
        return info.reward, policy.requests


CONVERSATIONS = {
    "odd turns": (MOCK, [*ODD_TURNS, say(None, CREATE), say(None, ("done", {}))], None),
    "a call that does not parse": (MOCK, [say(None, ("create_task", '{"user_id": '))], None),
    "arguments that are no JSON elsewhere": (
        MOCK,
        [say(None, ("create_task", '{"user_id": NaN, "title": 1e999}'))],
        None,
    ),
    "deep arguments": (MOCK, [say(None, ("create_task", '{"a":' * 40 + "1" + "}" * 40))], None),
    "text in solo mode": (MOCK, [say("I am done.")], None),
    "text that looks like a call, or like the end": (
        {**MOCK, "solo_mode": False},
        [
            say(json.dumps({"name": CREATE[0], "arguments": CREATE[1]})),
            say("###STOP###"),
            say(None, CREATE),
            say("Done."),
        ],
        [say("Create it."), say("So?"), say("Go on."), say("###STOP###")],
    ),
    "only text that looks like a call": (
        {**MOCK, "solo_mode": False},
        [say(json.dumps({"name": CREATE[0], "arguments": CREATE[1]})), say("Done.")],
        [say("Create it."), say("So?"), say("###STOP###")],
    ),
    "a history before the episode": (
        {"domain": "mock", "task_id": "update_task_with_message_history", "solo_mode": False},
        [
            say(None, ("update_task_status", {"task_id": "task_1", "status": "completed"})),
            say("Done."),
        ],
        [say("Go on."), say("Thanks. ###STOP###")],
    ),
    "thirty calls": (
        MOCK,
        [
            *(say(None, ("get_users", {})) for _ in range(30)),
            say(None, CREATE),
            say(None, ("done", {})),
        ],
        None,
    ),
    "too many steps": (
        {**MOCK, "max_steps": 5},
        [say(None, ("get_users", {})) for _ in range(9)],
        None,
    ),
    "the think tool": (
        {**MOCK, "add_thinking_tool": True},
        [say(None, ("think", {"thought": "hm"})), say(None, CREATE), say(None, ("done", {}))],
        None,
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_policy_is_shown_and_earns_what_it_does_without_aenvironment(name, aenv_service):
    (reward, requests), (expected, expected_requests) = (
        way(*CONVERSATIONS[name]) for way in (play, play_directly)
    )
    assert reward == expected
    assert [request["messages"] for request in requests] == [
        request["messages"] for request in expected_requests
    ]
    assert_same_tools(requests[0], expected_requests[0])


@pytest.mark.parametrize(
    "domain, solo_mode",
    [("telecom", True), ("telecom", False), ("airline", False), ("retail", False)],
)
def test_the_longest_tasks_are_solved_with_their_whole_history(domain, solo_mode, aenv_service):
    task = max(
        base_tasks(domain, solo_mode), key=lambda task: len(task.evaluation_criteria.actions or [])
    )
    says, listens = ground_truth(task, solo_mode)
    conversation = (
        {"domain": domain, "task_id": task.id, "solo_mode": solo_mode},
        says,
        listens or None,
    )
    (reward, requests), (expected, expected_requests) = (
        way(*conversation) for way in (play, play_directly)
    )
    assert reward == expected == 1.0
    assert [request["messages"] for request in requests] == [
        request["messages"] for request in expected_requests
    ]
    assert len(requests) == len(says) >= 12
    assert_same_tools(requests[0], expected_requests[0])
    assert ("done" in {tool["function"]["name"] for tool in requests[0]["tools"]}) == solo_mode
    assert ("<ticket>" in requests[0]["messages"][0]["content"]) == solo_mode


def test_tool_calls_whose_ids_are_not_unique_leave_no_hole_in_the_history(aenv_service):
    twice = say(None, ("get_users", {}), ("get_users", {}))
    first, second = twice["choices"][0]["message"]["tool_calls"]
    second["id"] = first["id"]
    reward, requests = play(MOCK, [twice, twice, say(None, CREATE), say(None, ("done", {}))])
    assert reward == 1.0
    roles = ["system", *["assistant", "tool", "tool"] * 2, "assistant", "tool"]
    assert [message["role"] for message in requests[-1]["messages"]] == roles


def assert_same_tools(request: dict, expected: dict) -> None:
    assert request["tool_choice"] == expected["tool_choice"]
    assert all(
        re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool["function"]["name"]) for tool in request["tools"]
    )
    assert request["tools"] == expected["tools"]


def test_sampling_arguments_reach_the_policy(aenv_service):
    _, requests = play(MOCK, [say(None, ("done", {}))])
    assert {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 8192}.items() <= requests[
        0
    ].items()
    sampling = {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_completion_tokens": 64,
        "frequency_penalty": 0.5,
        "seed": 7,
    }
    sampling |= {"reasoning_effort": "low", "response_format": {"type": "text"}}
    _, requests = play(MOCK, [say(None, ("done", {}))], timeout=60, **sampling)
    assert sampling.items() <= requests[0].items() and requests[0]["key"] == "key"


def test_without_a_user_llm_episodes_are_solo_and_no_variable_is_none(aenv_service, monkeypatch):
    for name in agent.USER_LLM:
        monkeypatch.delenv(name, raising=False)
    data = {
        "domain": "mock",
        "task_id": "create_task_1",
        "solo_mode": None,
        "user_llm_args": {"temperature": 0.0},
    }
    assert agent.environment_variables(data) == {
        "TAU2_DOMAIN": "mock",
        "TAU2_TASK_ID": "create_task_1",
        "TAU2_USER_LLM_ARGS": '{"temperature": 0.0}',
    }
    assert play(data, [say(None, CREATE), say(None, ("done", {}))])[0] == 1.0


def test_the_user_llm_of_the_environment_variables_is_asked_and_its_key_shown_to_nobody(
    aenv_service, monkeypatch, capfd
):
    answers = in_turn(
        say("Create it."), say("Create it."), say("###STOP###")
    )  # the first for `watched`
    with LLMServer(answers) as user, LLMServer(in_turn(say(None, CREATE), say("Done."))) as policy:
        monkeypatch.setenv("TAU2_USER_LLM", "openai/simulator")
        monkeypatch.setenv("TAU2_USER_LLM_API_BASE", user.base_url)
        monkeypatch.setenv("TAU2_USER_LLM_API_KEY", "sk-user-secret")

        async def watched() -> str:
            async with agent.opened({"domain": "mock", "task_id": "create_task_1"}) as conversation:
                instance = conversation.environment
                status = await instance.aside(instance.call_function, "tau2_get_status", {})
                return json.dumps([status, aenv_instances(aenv_service)])

        seen = asyncio.run(watched())
        server = {"base_url": policy.base_url, "api_key": "key", "model": "m"}
        assert (
            asyncio.run(
                run_agent_return_reward({"domain": "mock", "task_id": "create_task_1"}, **server)
            )
            == 1.0
        )
    assert (user.requests[-1]["key"], user.requests[-1]["model"]) == ("sk-user-secret", "simulator")
    assert "sk-user-secret" not in seen + "".join(capfd.readouterr())


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


def mended(**changes) -> dict:
    """A turn that creates the task, as a careless server would send it."""
    completion = say("Now.", CREATE)
    message = completion["choices"][0]["message"]
    message["content"] = changes.get("content", message["content"])
    if "usage" in changes:
        completion["usage"] = changes["usage"]
    call = message["tool_calls"][0]
    call.pop("type")
    call["id"] = changes.get("id", call["id"])
    return completion


@pytest.mark.parametrize(
    "turn",
    [mended(), mended(content="\ud800"), mended(usage={"prompt_tokens": 3}), mended(id=None)],
    ids=["no type of a call", "lone surrogate", "half a usage", "no id"],
)
def test_what_a_careless_server_sends_is_no_fault(turn, aenv_service):
    assert play(MOCK, [turn, say(None, ("done", {}))])[0] == 1.0


def test_calls_without_arguments_or_a_name(aenv_service):
    none = say(None, ("get_users", {}))
    none["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = None
    assert play(MOCK, [none, say(None, CREATE), say(None, ("done", {}))])[0] == 1.0
    none["choices"][0]["message"]["tool_calls"][0]["function"]["name"] = None
    assert play(MOCK, [none])[0] == 0.0


def test_a_completion_without_a_message_raises(aenv_service):
    nothing = say("")
    nothing["choices"][0]["message"] = None
    with pytest.raises(RuntimeError, match="without a message"):
        play(MOCK, [nothing])


def test_a_policy_that_fails_scores_0_and_a_server_that_fails_raises(aenv_service):
    too_long = (
        400,
        {
            "error": {
                "message": "maximum context length is 10 tokens",
                "code": "context_length_exceeded",
            }
        },
    )
    only_stop = (
        500,
        {"error": {"message": "... cannot strip stop tokens without removing entire output"}},
    )
    for failure in (too_long, only_stop):
        assert play(MOCK, [say(None, CREATE), failure])[0] == 0.0
        with pytest.raises(openai.APIStatusError):
            play(MOCK, [failure])
    for failure in ((400, {"error": {"message": "invalid tool name"}}), None):
        with pytest.raises(openai.OpenAIError):
            play(MOCK, [say(None, CREATE), failure])


def test_a_user_simulator_that_refuses_raises(aenv_service):
    refusal = (401, {"error": {"message": "no such key"}})
    with pytest.raises(AEnvError, match="no such key"):
        play({**MOCK, "solo_mode": False}, [say("Hello.")], [refusal])
    with pytest.raises(AEnvError, match="no such key"):
        play({**MOCK, "solo_mode": False}, [say("Hello.")], [say("Hi."), refusal])


@pytest.mark.parametrize("turn", [say(None, CREATE), say("a message", CREATE)])
def test_an_instance_that_dies_raises(turn, aenv_service):
    def answer(_request: dict) -> dict:
        (instance,) = aenv_instances(aenv_service)
        httpx.delete(f"{aenv_service}:8080/env-instance/{instance['id']}").raise_for_status()
        return turn

    with LLMServer(answer) as policy, pytest.raises((AEnvError, AgentsException)):
        asyncio.run(
            run_agent_return_reward(MOCK, base_url=policy.base_url, api_key="key", model="m")
        )


def test_no_service_raises(monkeypatch):
    monkeypatch.setenv("AENV_SYSTEM_URL", "http://127.3.2.38")
    monkeypatch.setattr(agent, "RETRIES", 0)
    with pytest.raises(AEnvError, match="connection"):
        play(MOCK, [say(None, CREATE)])


def test_a_service_that_does_not_answer_raises_and_is_asked_once(monkeypatch):
    monkeypatch.setattr(agent, "GRACE", 1.0)
    monkeypatch.setenv("AENV_SYSTEM_URL", "http://127.3.2.38")
    with socket.create_server(("127.3.2.38", 8080)) as server:
        with pytest.raises(RuntimeError, match="no instance ready within 2 s"):
            play({**MOCK, "timeout": 1}, [say(None, CREATE)])
        server.setblocking(False)
        server.accept()
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_row_with_a_database_of_its_own_raises(aenv_service):
    with pytest.raises(ValueError, match="not db_path"):
        play({**MOCK, "db_path": "db.json"}, [say(None, CREATE)])


def reward_at_a_deadline_of_1_s(answer) -> float:
    with LLMServer(answer) as policy:
        server = {"base_url": policy.base_url, "api_key": "key", "model": "m"}
        return asyncio.run(run_agent_return_reward({**MOCK, "timeout": 1}, **server))


@pytest.mark.parametrize("late", [say(None, CREATE), say("a message", CREATE)])
def test_a_turn_after_the_deadline_scores_0(late, aenv_service):
    answers = iter([say(None, ("get_users", {})), late])

    def answer(_request: dict) -> dict:
        completion = next(answers)
        if completion is late:
            time.sleep(1.5)
        return completion

    assert reward_at_a_deadline_of_1_s(answer) == 0.0


def test_a_policy_that_hangs_is_scored_0_at_the_deadline(aenv_service, monkeypatch):
    monkeypatch.setattr(agent, "GRACE", 2.0)
    answers = iter([say(None, CREATE)])

    def answer(_request: dict) -> dict:
        completion = next(answers, None)
        if completion is None:
            time.sleep(4)
        return completion

    assert reward_at_a_deadline_of_1_s(answer) == 0.0


def test_a_cancelled_episode_is_released(aenv_service):
    async def cancelled() -> None:
        def answer(_request: dict) -> None:
            assert len(aenv_instances(aenv_service)) == 1
            loop.call_soon_threadsafe(task.cancel)
            time.sleep(1)

        loop = asyncio.get_running_loop()
        with LLMServer(answer) as policy:
            task = asyncio.create_task(
                run_agent_return_reward(MOCK, base_url=policy.base_url, api_key="key", model="m")
            )
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())


def test_an_episode_cancelled_before_it_knows_its_instance_is_released(aenv_service):
    """The service's answer has come, and is not read yet."""

    async def cancelled() -> None:
        task = asyncio.create_task(
            run_agent_return_reward(MOCK, base_url="http://127.0.0.1:9", api_key="key", model="m")
        )
        while not await asyncio.to_thread(aenv_instances, aenv_service):
            pass
        agent._sdk_loop().call_soon_threadsafe(time.sleep, 2)
        while (await asyncio.to_thread(aenv_instances, aenv_service))[0]["status"] != "Running":
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_a_cancelled_call_of_the_sdk_ends_before_the_next_begins():
    begun, seen = threading.Event(), []

    async def ends_slowly() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            seen.append("cancelled")

    async def next_call() -> None:
        seen.append("next")

    async def calls() -> None:
        instance = agent.Instance(agent.ENVIRONMENT)
        task = asyncio.create_task(instance.aside(ends_slowly))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await instance.aside(next_call)

    asyncio.run(calls())
    assert seen == ["cancelled", "next"]


def test_the_sdk_does_not_stop_the_callers_event_loop(aenv_service, monkeypatch):
    """Reading certificates, as it does for each call, takes 30 ms and more."""
    threads = set()
    load = ssl.SSLContext.load_verify_locations

    def loaded(*arguments, **keywords) -> None:
        threads.add(threading.current_thread())
        load(*arguments, **keywords)

    ssl_context()  # the policy's client reads them once in a process
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", loaded)
    assert play(MOCK, [say(None, CREATE), say(None, ("done", {}))])[0] == 1.0
    assert threads and threading.main_thread() not in threads


def test_an_instance_plays_one_episode_also_where_it_is_the_only_one(monkeypatch):
    """With DUMMY_INSTANCE_IP the SDK asks no scheduler: all episodes meet the one server."""
    variables = {**os.environ, **agent.environment_variables(MOCK)}
    command = [sys.executable, "-m", "aenv.main", str(service.FOLDER), "--host", "127.0.0.1"]
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


def test_command_with_a_service_of_its_own(tmp_path):
    with LLMServer(in_turn(say(None, CREATE), say(None, ("done", {})))) as policy:
        names = {
            "OPENAI_BASE_URL": policy.base_url,
            "OPENAI_API_KEY": "key",
            "OPENAI_DEFAULT_MODEL": "some-model",
        }
        command = [sys.executable, agent.__file__, "--domain", "mock", "--task_id", "create_task_1"]
        played = subprocess.run(
            command, cwd=tmp_path, env=os.environ | names, capture_output=True, text=True
        )
    assert (played.returncode, played.stdout) == (0, "reward 1.0\n")
    assert "agent: create_task(" in played.stderr and policy.requests[0]["model"] == "some-model"


def test_command_that_cannot_play(aenv_service, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert agent.main(["--domain", "mock", "--task_id", "nonsense"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "no task 'nonsense'" in printed.err
