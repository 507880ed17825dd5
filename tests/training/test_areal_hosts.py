"""A run on one machine starts without a network, where AReaL has no address for it."""

import socket

import pytest
from areal.api.cli_args import SchedulingSpec
from areal.infra import LocalScheduler
from areal.utils import network

from examples.tau2.training.areal.hosts import (
    WORKER,
    is_on_loopback,
    start_workers_on_loopback,
    use_loopback_without_network,
)


@pytest.fixture
def no_network(monkeypatch):
    """A machine whose name has no address, and which has only the loopback interface."""
    connect = socket.socket.connect

    def connect_on_loopback(self, address):
        if not address[0].startswith("127."):
            raise OSError(101, "Network is unreachable")
        connect(self, address)

    def unknown_name(*_):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_name)
    monkeypatch.setattr(socket.socket, "connect", connect_on_loopback)
    # undone after the test
    monkeypatch.setattr(network.gethostip, "__defaults__", network.gethostip.__defaults__)


def test_areal_has_no_address_without_a_network(no_network):
    with pytest.raises(RuntimeError, match="Could not determine host IP"):
        network.gethostip()


def test_ours_is_on_loopback_without_a_network(no_network):
    use_loopback_without_network()
    assert network.gethostip() == "127.0.0.1" and is_on_loopback()


def test_an_address_that_there_is_stays(monkeypatch):
    address = [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("192.0.2.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: address)
    use_loopback_without_network()
    assert network.gethostip() == "192.0.2.7" and not is_on_loopback()


def test_workers_start_on_loopback_too(monkeypatch):
    forked = []
    monkeypatch.setattr(LocalScheduler, "fork_workers", lambda *arguments: forked.append(arguments))
    scheduler = LocalScheduler.__new__(LocalScheduler)
    start_workers_on_loopback(scheduler)
    spec = SchedulingSpec(cmd="python3 -X dev -m areal.infra.rpc.rpc_server")
    started = [spec.cmd for spec in scheduler._prepare_worker_specs("actor", 2, [spec])]
    assert started == [f"python3 -X dev -m {WORKER}"] * 2
    # the config stays as it is
    assert spec.cmd == "python3 -X dev -m areal.infra.rpc.rpc_server"
    scheduler.fork_workers("proxy-rollout", "rollout", command="a.proxy")
    assert forked == [(scheduler, "proxy-rollout", "rollout", WORKER)]
