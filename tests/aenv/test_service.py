"""The local AEnvironment service: its API, its limits, and that nothing of it outlives it."""

import asyncio
import os
import signal
import time
from collections import Counter

import httpx
import psutil
import pytest
from aenv.client.scheduler_client import AEnvSchedulerClient
from aenv.core.environment import Environment

from aenv.examples.tau2_rl import service
from tests.conftest import aenv_instances

TASK = {
    "TAU2_DOMAIN": "mock",
    "TAU2_TASK_ID": "create_task_1",
    "TAU2_USER_LLM_API_KEY": "sk-user-secret",
}
INSTANCE = {
    "envName": "tau2-env@1.0.0",
    "environment_variables": TASK,
    "owner": "me",
    "labels": {"a": "b"},
}


def ask(url: str, method: str, path: str, **arguments) -> dict:
    return httpx.request(method, f"{url}:8080{path}", timeout=60, **arguments).json()


def create(url: str, **fields) -> dict:
    reply = ask(url, "POST", "/env-instance", json={**INSTANCE, **fields})
    assert reply["success"], reply
    return reply["data"]


def end(url: str, instance: dict) -> None:
    assert ask(url, "DELETE", f"/env-instance/{instance['id']}")["success"]


def status(url: str, instance: dict) -> str:
    return ask(url, "GET", f"/env-instance/{instance['id']}")["data"]["status"]


def data(url: str, id: str, path: str = "/functions/tau2_get_status") -> httpx.Response:
    return httpx.post(f"{url}:8081{path}", headers={service.INSTANCE_ID: id}, json={}, timeout=60)


async def listed(url: str) -> list[str]:
    """By the SDK's own client."""
    async with AEnvSchedulerClient(f"{url}:8080") as client:
        return [instance.id for instance in await client.list_env_instances()]


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_instance_is_made_found_used_and_deleted(aenv_service):
    instance = create(aenv_service)
    assert (
        instance["status"] == "Running"
        and instance["labels"] == {"a": "b"}
        and instance["owner"] == "me"
    )
    assert ask(aenv_service, "GET", f"/env-instance/{instance['id']}")["data"] == instance
    for path in (
        "/env-instance/*/list",
        "/env-instance/tau2-env@1.0.0/list",
        "/env-instance/tau2-env/list?status=Running",
    ):
        assert ask(aenv_service, "GET", path)["data"] == [instance]
    assert ask(aenv_service, "GET", "/env-instance/another/list")["data"] == []
    assert asyncio.run(listed(aenv_service)) == [instance["id"]]
    assert data(aenv_service, instance["id"]).json()["data"]["task_id"] == "create_task_1"
    health = httpx.get(f"{aenv_service}:8081/health", headers={service.INSTANCE_ID: instance["id"]})
    assert health.json() == {"success": True, "data": {"status": "healthy"}}
    assert ask(aenv_service, "GET", "/health")["success"]
    assert "sk-user-secret" not in str(instance)
    end(aenv_service, instance)
    assert ask(aenv_service, "DELETE", f"/env-instance/{instance['id']}")["code"] == 404
    assert data(aenv_service, instance["id"]).status_code == 404
    assert aenv_instances(aenv_service) == []


@pytest.mark.parametrize(
    "body, code, problem",
    [
        ({**INSTANCE, "envName": "tau2-env@2"}, 404, "only tau2-env@1.0.0"),
        ({**INSTANCE, "environment_variables": {"TAU2_TASK_ID": None}}, 400, "must be strings"),
        ({**INSTANCE, "ttl": "soon"}, 400, "ttl 'soon' is not a duration"),
        ([], 400, "bad request"),
        (
            {**INSTANCE, "environment_variables": {"TAU2_DOMAIN": "nowhere"}},
            422,
            "must be one of airline",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(body, code, problem, aenv_service):
    reply = ask(aenv_service, "POST", "/env-instance", json=body)
    assert (reply["success"], reply["code"]) == (False, code) and problem in reply["message"]
    assert aenv_instances(aenv_service) == []


def test_32_run_at_once_and_more_wait_for_room(aenv_service):
    async def play() -> None:
        environments = [
            Environment("tau2-env@1.0.0", environment_variables=TASK) for _ in range(32)
        ]
        try:
            await asyncio.gather(*(environment.initialize() for environment in environments))
            waiting, gives_up = await asyncio.gather(
                *(asyncio.to_thread(create, aenv_service) for _ in range(2))
            )
            statuses = Counter(instance["status"] for instance in aenv_instances(aenv_service))
            assert statuses == {"Running": 32, "Creating": 2}
            assert data(aenv_service, waiting["id"]).status_code == 502
            end(aenv_service, gives_up)
            await environments.pop().release()
            wait_until(lambda: status(aenv_service, waiting) == "Running")
            end(aenv_service, waiting)
        finally:
            await asyncio.gather(*(environment.release() for environment in environments))

    asyncio.run(play())


def test_who_waits_for_room_and_is_forgotten_gets_none(monkeypatch, tmp_path):
    monkeypatch.setattr(
        service.Service, "_warm_up", lambda self, loop: loop.call_soon_threadsafe(self.warm.set)
    )

    async def forgotten() -> service.Instance:
        instance = service.Instance(
            "i", "", 60.0, None, None, {}, asked_at=time.monotonic() - service.ABANDONED - 1
        )
        await service.Service(str(tmp_path), max_instances=1)._live(instance)
        return instance

    instance = asyncio.run(forgotten())
    assert instance.status == "Failed" and "nobody has asked for it" in instance.message


def test_an_instance_ends_with_its_time_to_live(aenv_service):
    instance = create(aenv_service, ttl="1500ms")
    wait_until(lambda: status(aenv_service, instance) == "Terminated")
    answer = data(aenv_service, instance["id"])
    assert answer.status_code == 502 and "time to live of 1.5 s is over" in answer.json()["error"]
    end(aenv_service, instance)


def test_an_instance_whose_process_dies_has_failed(aenv_service):
    before = set(psutil.Process().children(recursive=True))
    instance = create(aenv_service)
    (process,) = set(psutil.Process().children(recursive=True)) - before
    process.kill()
    wait_until(lambda: status(aenv_service, instance) == "Failed")
    assert "ended with status -9" in data(aenv_service, instance["id"]).json()["error"]
    end(aenv_service, instance)


def test_a_caller_that_goes_away_leaves_no_instance(aenv_service):
    first = create(aenv_service)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{aenv_service}:8080/env-instance", json=INSTANCE, timeout=0.02)
    end(aenv_service, first)
    wait_until(lambda: aenv_instances(aenv_service) == [])


def test_nothing_outlives_a_service_that_is_killed_and_its_own_variables_set_no_episode(
    monkeypatch,
):
    monkeypatch.setenv("TAU2_MAX_STEPS", "1")
    host = service.any_host()
    with service.running(host) as url:
        instance = create(url)
        assert data(url, instance["id"]).json()["data"]["max_steps"] == 100
        (main,) = [process for process in psutil.Process().children() if _listens(process, host)]
        rest = main.children(recursive=True)
        assert len(rest) >= 2  # the fork server and the instance
        os.kill(main.pid, signal.SIGKILL)
        assert psutil.wait_procs([main, *rest], timeout=60)[1] == []


def test_a_service_ends_with_its_parent():
    """As a command that is killed leaves it."""
    here, there = service.multiprocessing.get_context("spawn").Pipe(duplex=False)
    parent = service.multiprocessing.get_context("spawn").Process(
        target=_run_until_killed, args=(there,)
    )
    parent.start()
    here.recv()
    rest = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.join()
    assert psutil.wait_procs(rest, timeout=60)[1] == []


def _run_until_killed(report) -> None:
    with service.running(service.any_host()) as url:
        report.send(url)
        time.sleep(600)


def _listens(process: psutil.Process, host: str) -> bool:
    return any(
        c.laddr.ip == host for c in process.net_connections() if c.status == psutil.CONN_LISTEN
    )


def test_a_port_that_is_taken(aenv_service, capfd):
    host = aenv_service.removeprefix("http://")
    with pytest.raises(RuntimeError, match=f"did not start on {host}"), service.running(host):
        pass
    assert f"cannot listen on {host}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "text, expected", [("", 1800), ("90", 90), ("30m", 1800), ("1h1m1.5s", 3661.5), ("20ms", 0.02)]
)
def test_seconds(text, expected):
    assert service.seconds(text) == expected


@pytest.mark.parametrize("text", ["1d", "m", "1m 2s", "-5s"])
def test_no_seconds(text):
    with pytest.raises(ValueError, match="not a duration"):
        service.seconds(text)
