"""The control API of the local service, and the lives of its instances."""

import asyncio
import time
from collections import Counter

import httpx
import psutil
import pytest
from aenv.client.scheduler_client import AEnvSchedulerClient
from aenv.core.environment import Environment

from aenv.examples.tau2_rl.service import scheduler
from tests.aenv.control_api import (
    INSTANCE,
    TASK,
    ask,
    call_instance,
    create_instance,
    end_instance,
    status_of,
)
from tests.conftest import aenv_instances
from tests.waiting import until


async def ids_by_the_sdk(url: str) -> list[str]:
    """The ids of all instances, as the SDK's own client lists them."""
    async with AEnvSchedulerClient(f"{url}:8080") as client:
        return [instance.id for instance in await client.list_env_instances()]


def test_an_instance_is_created_found_used_and_deleted(aenv_service):
    instance = create_instance(aenv_service)
    assert instance["status"] == "Running"
    assert (instance["labels"], instance["owner"]) == ({"a": "b"}, "me")
    assert ask(aenv_service, "GET", f"/env-instance/{instance['id']}")["data"] == instance
    for path in (
        "/env-instance/*/list",
        "/env-instance/tau2-env@1.0.0/list",
        "/env-instance/tau2-env/list?status=Running",
    ):
        assert ask(aenv_service, "GET", path)["data"] == [instance]
    assert ask(aenv_service, "GET", "/env-instance/another/list")["data"] == []
    assert asyncio.run(ids_by_the_sdk(aenv_service)) == [instance["id"]]
    assert call_instance(aenv_service, instance["id"]).json()["data"]["task_id"] == "create_task_1"
    assert ask(aenv_service, "GET", "/health")["success"]
    assert "sk-user-secret" not in str(instance)
    end_instance(aenv_service, instance)
    assert ask(aenv_service, "DELETE", f"/env-instance/{instance['id']}")["code"] == 404
    assert call_instance(aenv_service, instance["id"]).status_code == 404
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
def test_an_instance_that_cannot_be_created_is_refused_with_the_reason(
    body, code, problem, aenv_service
):
    reply = ask(aenv_service, "POST", "/env-instance", json=body)
    assert (reply["success"], reply["code"]) == (False, code) and problem in reply["message"]
    assert aenv_instances(aenv_service) == []


def test_32_instances_run_at_once_and_more_wait_for_room(aenv_service):
    async def play() -> None:
        environments = [
            Environment("tau2-env@1.0.0", environment_variables=TASK) for _ in range(32)
        ]
        try:
            await asyncio.gather(*(environment.initialize() for environment in environments))
            waiting, gives_up = await asyncio.gather(
                *(asyncio.to_thread(create_instance, aenv_service) for _ in range(2))
            )
            statuses = Counter(instance["status"] for instance in aenv_instances(aenv_service))
            assert statuses == {"Running": 32, "Creating": 2}
            assert call_instance(aenv_service, waiting["id"]).status_code == 502
            end_instance(aenv_service, gives_up)
            await environments.pop().release()
            until(lambda: status_of(aenv_service, waiting) == "Running")
            end_instance(aenv_service, waiting)
        finally:
            await asyncio.gather(*(environment.release() for environment in environments))

    asyncio.run(play())


def test_an_instance_that_waits_for_room_and_is_forgotten_is_not_started(monkeypatch, tmp_path):
    monkeypatch.setattr(
        scheduler.Scheduler,
        "_start_fork_server",
        lambda self, loop: loop.call_soon_threadsafe(self._fork_server_is_ready.set),
    )

    async def forget() -> scheduler.Instance:
        asked_at = time.monotonic() - scheduler.ABANDONED_AFTER - 1
        instance = scheduler.Instance("i", "", 60.0, None, None, {}, asked_at=asked_at)
        await scheduler.Scheduler(str(tmp_path), max_instances=1)._live(instance)
        return instance

    instance = asyncio.run(forget())
    assert instance.status == "Failed" and "nobody has asked for it" in instance.message


def test_an_instance_ends_with_its_time_to_live(aenv_service):
    instance = create_instance(aenv_service, ttl="5000ms")
    until(lambda: status_of(aenv_service, instance) == "Terminated")
    answer = call_instance(aenv_service, instance["id"])
    assert answer.status_code == 502 and "time to live of 5 s is over" in answer.json()["error"]
    end_instance(aenv_service, instance)


def test_an_instance_whose_process_dies_has_failed(aenv_service):
    before = set(psutil.Process().children(recursive=True))
    instance = create_instance(aenv_service)
    (process,) = set(psutil.Process().children(recursive=True)) - before
    process.kill()
    until(lambda: status_of(aenv_service, instance) == "Failed")
    assert "ended with status -9" in call_instance(aenv_service, instance["id"]).json()["error"]
    end_instance(aenv_service, instance)


def test_a_caller_that_goes_away_leaves_no_instance(aenv_service):
    first = create_instance(aenv_service)
    soon = httpx.Timeout(None, read=0.02)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{aenv_service}:8080/env-instance", json=INSTANCE, timeout=soon)
    end_instance(aenv_service, first)
    until(lambda: aenv_instances(aenv_service) == [])


@pytest.mark.parametrize(
    "text, expected", [("", 1800), ("90", 90), ("30m", 1800), ("1h1m1.5s", 3661.5), ("20ms", 0.02)]
)
def test_duration_in_seconds(text, expected):
    assert scheduler.duration_in_seconds(text) == expected


@pytest.mark.parametrize("text", ["1d", "m", "1m 2s", "-5s"])
def test_a_text_that_is_not_a_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        scheduler.duration_in_seconds(text)
