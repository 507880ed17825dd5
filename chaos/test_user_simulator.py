"""A user simulator fails, for a minute or now and then: no episode is scored for it or lost."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment, outage
from tests.scripted import ground_truth, replay, say

TASK = "create_task_1"
CONCURRENT = 32
# seconds between the episodes of a player
PAUSE = 1.0
# seconds before the fault, during it and after it
BEFORE, FAULT, AFTER = 20, 60, 40
# seconds that an episode may take
DEADLINE = 180.0
SPORADIC = ("500", "empty", "thinking only", "truncated call", "late", "closed")

Fault = Callable[[], str | None]


class Simulator:
    """The user simulator of one task, a server in this event loop.

    `fault()` says what is wrong with the next answer, None if nothing is.
    """

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
        """Close connections and refuse new ones, as if the process had been killed."""
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


def sporadic_fault() -> str | None:
    return random.choice(SPORADIC) if random.random() < 0.05 else None


FAULTS = {
    "dies, and is back after 60 s": down_for_a_minute,
    "429 for 60 s": lambda simulator: faulty(simulator, lambda: "429"),
    f"5% of {', '.join(SPORADIC)}": lambda simulator: faulty(simulator, sporadic_fault),
}


@dataclass
class Outcome:
    """What happened in a scenario; times are in seconds from its start."""

    # of each episode
    end_times: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    fault_begin: float = 0.0
    fault_end: float = 0.0

    def episodes_per_second(self, begin: float, end: float) -> float:
        ended = [at for at in self.end_times if begin <= at < end]
        return len(ended) / (end - begin)


def play(break_it: Callable, up_at_the_start: bool = True) -> Outcome:
    """Play episodes while `break_it` causes the fault."""
    simulator = Simulator(TASK)
    workflow = Tau2AgentWorkflow(
        {
            "domain": "mock",
            "user_llm_base_url": f"http://127.0.0.1:{simulator.port}/v1",
            "timeout": DEADLINE,
        }
    )
    says, _ = ground_truth(environment.find_task("mock", TASK))
    outcome = Outcome()
    handler = logging.Handler()
    handler.emit = lambda record: outcome.logged.append(record.getMessage())

    async def player(start: float) -> None:
        while time.monotonic() - start < BEFORE + FAULT + AFTER:
            info = await workflow.play_with(replay(says), {"task_id": TASK})
            outcome.end_times.append(time.monotonic() - start)
            outcome.rewards.append(info.reward)
            await asyncio.sleep(PAUSE)

    async def scenario() -> None:
        start = time.monotonic()
        if up_at_the_start:
            await simulator.up()
        players = [asyncio.create_task(player(start)) for _ in range(CONCURRENT)]
        await asyncio.sleep(BEFORE if up_at_the_start else 0)
        outcome.fault_begin = time.monotonic() - start
        async with break_it(simulator):
            await asyncio.sleep(FAULT)
        outcome.fault_end = time.monotonic() - start
        await asyncio.gather(*players)
        await simulator.down()

    outage.logger.addHandler(handler)
    try:
        asyncio.run(scenario())
    finally:
        outage.logger.removeHandler(handler)
    return outcome


def check_outcome(what: str, outcome: Outcome, capsys) -> None:
    begin, end = outcome.fault_begin, outcome.fault_end
    last = end + AFTER
    before = outcome.episodes_per_second(begin - BEFORE, begin)
    meanwhile = outcome.episodes_per_second(begin, end)
    after = outcome.episodes_per_second(last - BEFORE, last)
    with capsys.disabled():
        print(
            f"\n{what}: {len(outcome.rewards)} episodes; a second before, meanwhile, after: "
            f"{before:.1f} {meanwhile:.1f} {after:.1f}; {outcome.logged}"
        )
    # no episode is rejected either: that would be an exception
    assert set(outcome.rewards) == {1.0}
    assert len(outcome.logged) <= 4
    assert after > 0.7 * before


@pytest.mark.parametrize("what", FAULTS)
def test_nobody_is_scored_for_a_user_simulator_that_fails(what, capsys):
    check_outcome(what, play(FAULTS[what]), capsys)


def test_a_user_simulator_that_is_not_up_yet_is_waited_for(capsys):
    @asynccontextmanager
    async def not_yet(simulator):
        yield
        await simulator.up()

    outcome = play(not_yet, up_at_the_start=False)
    check_outcome("comes up after 60 s", outcome, capsys)
    assert min(outcome.end_times) > FAULT
