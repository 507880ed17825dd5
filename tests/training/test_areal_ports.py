"""Two runs that start at the same time get the same ports from AReaL, and other ports from ours."""

import multiprocessing
import random
import socket
from multiprocessing.connection import Connection

import pytest
from areal.api.cli_args import InferenceEngineConfig
from areal.utils import network, seeding

from examples.tau2.training.areal import ports
from examples.tau2.training.areal.ports import draw_ports_apart
from examples.tau2.training.engines import rollout


@pytest.fixture(autouse=True)
def areals_own_drawing(monkeypatch):
    """AReaL's own functions and no reservation, before and after each test."""
    monkeypatch.setattr(network, "random", random)
    monkeypatch.setattr(network, "is_port_free", ports.is_free)
    monkeypatch.setattr(ports, "reserved", [])
    yield
    for name in ports.reserved:
        name.close()


def start_run(ours: bool, pipe: Connection) -> None:
    """Draw ports on which servers will listen later, in a process of a run's own."""
    if ours:
        draw_ports_apart()
    seeding.set_random_seed(1, "trainer0")
    pipe.send(network.find_free_ports(4))
    pipe.recv()


@pytest.mark.parametrize("ours, shared", [(False, 4), (True, 0)])
def test_runs_that_start_at_the_same_time(ours, shared):
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(2)]
    runs = [context.Process(target=start_run, args=(ours, theirs)) for _, theirs in pipes]
    for run in runs:
        run.start()
    one, other = [set(mine.recv()) for mine, _ in pipes]
    for (mine, _), run in zip(pipes, runs, strict=True):
        mine.send(None)
        run.join()
    assert len(one & other) == shared


class Draws:
    """Stands for the random numbers of `areal.utils.network`: these ports are drawn in turn."""

    def __init__(self, *drawn: int):
        self.drawn = iter(drawn)

    def randint(self, low: int, high: int) -> int:
        return next(self.drawn)


def free_ports(count: int) -> list[int]:
    return network.find_free_ports(count)


@pytest.fixture
def a_port() -> int:
    """A port on which nothing listens."""
    return free_ports(1)[0]


def test_a_port_that_another_process_has_drawn_is_drawn_again(a_port, monkeypatch):
    draw_ports_apart()
    (other,) = free_ports(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
        name.bind(f"\0areal-port-{a_port}")
        monkeypatch.setattr(network, "random", Draws(a_port, other + 1, other + 2, other + 3))
        assert free_ports(1)[0] > other


def test_a_port_on_which_something_listens_is_drawn_again(a_port, monkeypatch):
    draw_ports_apart()
    with socket.create_server(("", a_port)):
        monkeypatch.setattr(network, "random", Draws(a_port, *range(20000, 20010)))
        assert free_ports(1)[0] != a_port


def test_a_process_draws_no_port_twice(a_port, monkeypatch):
    draw_ports_apart()
    monkeypatch.setattr(network, "random", Draws(a_port, a_port, *range(20000, 20010)))
    assert free_ports(1) == [a_port]
    assert free_ports(1) != [a_port]


def test_a_worker_draws_ports_apart_from_when_it_has_its_engine():
    rollout.RemoteSGLangEngine(InferenceEngineConfig(backend="sglang:d1"))
    assert network.is_port_free is ports.reserve
