"""A client of the local service for the tests: its control API, and its gateway."""

import httpx

from aenv.examples.tau2_rl.service import INSTANCE_ID

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
    """The control API's answer."""
    return httpx.request(method, f"{url}:8080{path}", timeout=None, **arguments).json()


def create_instance(url: str, **fields) -> dict:
    """A new instance."""
    reply = ask(url, "POST", "/env-instance", json={**INSTANCE, **fields})
    assert reply["success"], reply
    return reply["data"]


def end_instance(url: str, instance: dict) -> None:
    assert ask(url, "DELETE", f"/env-instance/{instance['id']}")["success"]


def status_of(url: str, instance: dict) -> str:
    return ask(url, "GET", f"/env-instance/{instance['id']}")["data"]["status"]


def call_instance(url: str, instance_id: str) -> httpx.Response:
    """The gateway's answer to a call of the instance's status function."""
    headers = {INSTANCE_ID: instance_id}
    path = "/functions/tau2_get_status"
    return httpx.post(f"{url}:8081{path}", headers=headers, json={}, timeout=None)
