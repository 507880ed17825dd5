"""A user simulator that fails, for a minute or now and then: nobody is scored for it, and nothing is lost."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment, outage
from tests.scripted import ground_truth, replay, say

TASK = "create_task_1"
CONCURRENT = 32
PAUSE = 1.0  # seconds between the episodes of a player
BEFORE, FAULT, AFTER = 20, 60, 40  # seconds
DEADLINE = 180.0  # of an episode, seconds
SPORADIC = ("500", "empty", "thinking only", "truncated call", "late", "closed")

Fault = Callable[[], str | None]


class Simulator:
    """Of one task, on a port of its own, in this event loop; `fault()` is what is wrong with the next answer."""

    def __init__(self, task: str):
        self.says = ground_truth(environment.find_task("mock", task))[1]
        self.fault: Fault = lambda: None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.runner: web.AppRunner | None = None

    async def up(self) -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self.answer)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def down(self) -> None:
        """As if its process had been killed: connections are closed, and new ones refused."""
        await self.runner.cleanup()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        match self.fault():
            case "429":
                return web.json_response({"error": {"message": "slow down"}}, status=429)
            case "500":
                return web.json_response({"error": {"message": "out of memory"}}, status=500)
            case "empty":
                return web.json_response(say(""))
            case "thinking only":
                return web.json_response(say("<think>What do I want?</think>"))
            case "truncated call":
                return web.json_response(say(None, ("get_users", '{"a": ')))
            case "late":
                await asyncio.sleep(30)
            case "closed":
                request.transport.close()
        said = sum(message["role"] == "assistant" for message in body["messages"])
        return web.json_response(self.says[min(said, len(self.says) - 1)])


@asynccontextmanager
async def down_for_a_minute(simulator: Simulator):
    await simulator.down()
    yield
    await simulator.up()


@asynccontextmanager
async def faulty(simulator: Simulator, fault: Fault):
    simulator.fault = fault
    yield
    simulator.fault = lambda: None


FAULTS = {
    "dies, and is back after 60 s": down_for_a_minute,
    "429 for 60 s": lambda simulator: faulty(simulator, lambda: "429"),
    f"5% of {', '.join(SPORADIC)}": lambda simulator: faulty(
        simulator, lambda: random.choice(SPORADIC) if random.random() < 0.05 else None
    ),
}


def play(
    break_it: Callable, up_at_the_start: bool = True
) -> tuple[list[tuple[float, float]], list[str], list[float]]:
    """(time, reward) of all episodes, what was logged, and when the fault began and ended; in seconds from the start."""
    simulator = Simulator(TASK)
    workflow = Tau2AgentWorkflow(
        {
            "domain": "mock",
            "user_llm_base_url": f"http://127.0.0.1:{simulator.port}/v1",
            "timeout": DEADLINE,
        }
    )
    says, lines, ended, moments = ground_truth(environment.find_task("mock", TASK))[0], [], [], []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())

    async def player(start: float) -> None:
        while time.monotonic() - start < BEFORE + FAULT + AFTER:
            info = await workflow.play_with(replay(says), {"task_id": TASK})
            ended.append((time.monotonic() - start, info.reward))
            await asyncio.sleep(PAUSE)

    async def scenario() -> None:
        start = time.monotonic()
        if up_at_the_start:
            await simulator.up()
        players = [asyncio.create_task(player(start)) for _ in range(CONCURRENT)]
        await asyncio.sleep(BEFORE if up_at_the_start else 0)
        moments.append(time.monotonic() - start)
        async with break_it(simulator):
            await asyncio.sleep(FAULT)
        moments.append(time.monotonic() - start)
        await asyncio.gather(*players)
        await simulator.down()

    outage.logger.addHandler(handler)
    try:
        asyncio.run(scenario())
    finally:
        outage.logger.removeHandler(handler)
    return ended, lines, moments


def check(what: str, ended: list, lines: list, moments: list, capsys) -> None:
    began, over = moments
    spans = (began - BEFORE, began), (began, over), (over + AFTER - BEFORE, over + AFTER)
    rates = [sum(low <= at < high for at, _ in ended) / (high - low) for low, high in spans]
    with capsys.disabled():
        print(
            f"\n{what}: {len(ended)} episodes; a second before, meanwhile, after: {np.round(rates, 1)}; {lines}"
        )
    assert {reward for _, reward in ended} == {
        1.0
    }  # nothing is rejected either: that would be an exception
    assert len(lines) <= 4
    assert rates[2] > 0.7 * rates[0]


@pytest.mark.parametrize("what", FAULTS)
def test_nobody_is_scored_for_a_user_simulator_that_fails(what, capsys):
    check(what, *play(FAULTS[what]), capsys)


def test_a_user_simulator_that_is_not_up_yet_is_waited_for(capsys):
    @asynccontextmanager
    async def not_yet(simulator):
        yield
        await simulator.up()

    ended, lines, moments = play(not_yet, up_at_the_start=False)
    check("comes up after 60 s", ended, lines, moments, capsys)
    assert min(at for at, _ in ended) > FAULT
