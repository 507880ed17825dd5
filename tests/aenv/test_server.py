"""The process of the local service: how it starts, and that nothing outlives it."""

import multiprocessing
import os
import signal
import time

import psutil
import pytest

from aenv.examples.tau2_rl.service.server import random_host, running_service
from tests.aenv.control_api import call_instance, create_instance


@pytest.mark.processes
def test_nothing_outlives_a_service_that_is_killed_and_its_own_variables_set_no_episode(
    monkeypatch,
):
    monkeypatch.setenv("TAU2_MAX_STEPS", "1")
    host = random_host()
    with running_service(host) as url:
        instance = create_instance(url)
        assert call_instance(url, instance["id"]).json()["data"]["max_steps"] == 100
        children = psutil.Process().children()
        (main,) = [process for process in children if listens_on(process, host)]
        rest = main.children(recursive=True)
        # the fork server and the instance, at least
        assert len(rest) >= 2
        os.kill(main.pid, signal.SIGKILL)
        assert psutil.wait_procs([main, *rest], timeout=60)[1] == []


@pytest.mark.processes
def test_a_service_ends_with_its_parent():
    """A command that is killed leaves no service behind."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    parent = context.Process(target=run_until_killed, args=(sender,))
    parent.start()
    receiver.recv()
    rest = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.join()
    assert psutil.wait_procs(rest, timeout=60)[1] == []


def run_until_killed(sender) -> None:
    with running_service(random_host()) as url:
        sender.send(url)
        time.sleep(600)


def listens_on(process: psutil.Process, host: str) -> bool:
    for connection in process.net_connections():
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip == host:
            return True
    return False


def test_a_port_that_is_taken(aenv_service, capfd):
    host = aenv_service.removeprefix("http://")
    expected = pytest.raises(RuntimeError, match=f"did not start on {host}")
    with expected, running_service(host):
        pass
    assert f"cannot listen on {host}" in capfd.readouterr().err
