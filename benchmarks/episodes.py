"""What episodes cost beside the LLM: tau2's own way and ours, in turn, in one run.

    python -m benchmarks.episodes [--json FILE]      (`make bench`)

Scripted models play the expected actions of tau2's base tasks. In the way called `tau2`, tau2's own constructors load the
tasks, build the environment, and build those of the evaluation for each episode, in the same asynchronous driver. Every
measurement has a fresh process. Where CPU time is measured the LLMs are functions; otherwise they are an HTTP server on
loopback, in a process of its own, that answers at once.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from benchmarks.llm_server import serve
from examples.tau2 import agent
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment, llm
from examples.tau2.episode.environment import registry
from tests.scripted import ground_truth, say

DOMAINS = ("airline", "retail", "telecom")
CONCURRENCY = (1, 16, 64, 256)
TAU2_CONCURRENCY = 16  # at 256, tau2's way would take five minutes a domain
AREAL_CONCURRENCY = 64
SECONDS = 3.0  # of each measurement of a bare client
TURNS = (10, 50, 100, 200)
COPIES = (1, 4, 16)
STALL = 20.0  # ms; what stops the event loop for longer is named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--json", type=Path, default=Path(".cache/bench/episodes.json"), help="file for all numbers"
    )
    path = parser.parse_args().json
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["examples.tau2.agent"])
    here, there = processes.Pipe()
    processes.Process(target=serve, args=(DOMAINS, there), daemon=True).start()
    server = here.recv()

    def measure(
        function: Callable, *arguments: Any, pool: ProcessPoolExecutor | None = None
    ) -> Any:
        print(
            f"{time.monotonic() - start:4.0f} s  {function.__name__}",
            *arguments,
            file=sys.stderr,
            flush=True,
        )
        return (pool or fresh).submit(function, *arguments).result()

    def cpu_in_turn(domain: str) -> dict[str, list[float]]:
        """Each way in a process of its own, by turns: the speed of a shared machine changes from one second to the next."""
        ids = _task_ids(domain, 50)
        times: dict[str, list[float]] = {"tau2": [], "ours": []}
        with ProcessPoolExecutor(1, processes) as tau2, ProcessPoolExecutor(1, processes) as ours:
            for number in range(10):
                times["tau2"] += measure(cpu, domain, "tau2", ids[number::10][:1], pool=tau2)
                times["ours"] += measure(cpu, domain, "ours", ids[number::10], pool=ours)
        return times

    def measure_domain(domain: str) -> dict[str, Any]:
        return {
            "cpu_ms": cpu_in_turn(domain),
            "tau2": measure(load, domain, "tau2", TAU2_CONCURRENCY, server),
            "ours": {n: measure(load, domain, "ours", n, server) for n in CONCURRENCY},
            "areal": measure(load, domain, "areal", AREAL_CONCURRENCY, server),
            "bare": {n: measure(bare, domain, False, n, server) for n in CONCURRENCY},
            "bare_ours": {n: measure(bare, domain, True, n, server) for n in CONCURRENCY},
        }

    start = time.monotonic()
    with ProcessPoolExecutor(1, processes, max_tasks_per_child=1) as fresh:
        results = {
            "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
            "domains": {domain: measure_domain(domain) for domain in DOMAINS},
            "cpu_ms_per_turn": {turns: measure(cpu_per_turn, turns) for turns in TURNS},
            "cpu_ms_by_copies": {copies: measure(cpu_of_copies, copies) for copies in COPIES},
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    print(table(results))
    print(f"\nall numbers: {path}")


def table(results: dict[str, Any]) -> str:
    """The run in short: a column a domain; where two numbers are compared, tau2's way comes first, then ours."""
    columns = {domain: _column(measured) for domain, measured in results["domains"].items()}
    rows = next(iter(columns.values()))
    lines = [f"{'':50}" + "".join(f"{domain:>24}" for domain in columns)]
    lines += [
        f"{row:50}" + "".join(f"{column[row]:>24}" for column in columns.values()) for row in rows
    ]
    sizes = {"CPU ms per turn, of airline, by turns": "cpu_ms_per_turn"}
    sizes["CPU ms per episode, by copies of airline's data"] = "cpu_ms_by_copies"
    for row, key in sizes.items():
        lines.append(
            f"{row:50}  "
            + "   ".join(f"{size}: {value:.2f}" for size, value in results[key].items())
        )
    return "\n".join(lines)


def _column(measured: dict[str, Any]) -> dict[str, str]:
    tau2, most = measured["tau2"], measured["ours"][max(CONCURRENCY)]
    before, after = map(statistics.median, measured["cpu_ms"].values())
    column = {"CPU ms per episode, median": f"{before:,.0f} / {after:.1f} = {before / after:.0f}x"}
    for name, key in (("longest", "max"), ("99th percentile", "p99")):
        column[f"event loop stopped, {name}, ms"] = (
            f"{tau2['stall_ms'][key]:.0f} / {most['stall_ms'][key]:.1f}"
        )
    column["memory per concurrent episode, MB"] = (
        f"{tau2['mb_per_episode']:.1f} / {most['mb_per_episode']:.2f}"
    )
    for n, ours in measured["ours"].items():
        before = f"{tau2['episodes_per_s']:.1f} / " if n == TAU2_CONCURRENCY else ""
        column[f"episodes/s at {n}"] = f"{before}{ours['episodes_per_s']:.0f}"
        for name, key in (("a bare AsyncOpenAI's", "bare"), ("our bare client's", "bare_ours")):
            rate, limit = ours["calls_per_s"], measured[key][n]["calls_per_s"]
            column[f"calls/s at {n}, of {name}"] = f"{rate:.0f} of {limit:.0f} = {rate / limit:.0%}"
    column[f"calls/s at {AREAL_CONCURRENCY} with AReaL's HTTP client"] = (
        f"{measured['areal']['calls_per_s']:.0f}"
    )
    return column


def cpu(domain: str, way: str, ids: list[str]) -> list[float]:
    """CPU ms of each episode, one after the other: all that the workflow does, in all its threads, but no HTTP."""
    episodes = [(id, *ground_truth(environment.find_task(domain, id))) for id in ids]
    with _tau2s_way() if way == "tau2" else nullcontext():
        return _play_alone(domain, episodes)


def cpu_per_turn(turns: int) -> float:
    """CPU ms per turn of the agent, evaluation included: every other turn is a call, the others are talk."""
    id = _task_ids("airline", 1)[0]
    users = list(registry.get_env_constructor("airline")().tools.db.users)[:turns]
    says = [
        said
        for user in users[: turns // 2]
        for said in (
            say(None, ("get_user_details", {"user_id": user})),
            say(f"Your identity, {user}, is confirmed."),
        )
    ]
    listens = [
        say("Hello, it's me."),
        *(say("Please look once more.") for _ in says[3::2]),
        say("###STOP###"),
    ]
    times = _play_alone("airline", [(id, says, listens)] * 10)
    return statistics.median(times) / turns


def cpu_of_copies(copies: int) -> float:
    """CPU ms per airline episode when the database holds as many copies of everything."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "db.json")
        path.write_text(json.dumps(copied_airline(copies)))
        episodes = [
            (id, *ground_truth(environment.find_task("airline", id)))
            for id in _task_ids("airline", 25)
        ]
        return statistics.median(_play_alone("airline", episodes, str(path)))


def copied_airline(copies: int) -> dict[str, dict]:
    """As many copies of airline's flights, users and reservations; all tools return what they do on one.

    Each copy has keys and airports of its own.
    """
    db = registry.get_env_constructor("airline")().tools.db.model_dump(mode="json")
    airports = sorted(
        {flight[end] for flight in db["flights"].values() for end in ("origin", "destination")}
    )
    merged = {name: dict(table) for name, table in db.items()}
    for number in range(1, copies):
        text = json.dumps(db)
        for airport in airports:
            text = text.replace(f'"{airport}"', f'"{airport}{number}"')
        for name, table in json.loads(text).items():
            merged[name] |= {f"{key}-{number}": item for key, item in table.items()}
    return merged


def load(domain: str, way: str, concurrent: int, server: str) -> dict[str, Any]:
    """Episodes against the HTTP server, so many at a time; in the way "areal", with an HTTP client like the one it hands over."""
    episodes = concurrent if way == "tau2" else max(concurrent, 48)
    ids = list(islice(cycle(_task_ids(domain, 50)), episodes))
    calls = {id: sum(map(len, ground_truth(environment.find_task(domain, id)))) for id in set(ids)}

    async def run(workflow: Tau2AgentWorkflow) -> dict[str, Any]:
        # the limits of AReaL 1.0.4: areal.infra.utils.http.get_default_httpx_limits
        limits = httpx.Limits(
            max_connections=4096, max_keepalive_connections=1024, keepalive_expiry=30
        )
        http_client = httpx.AsyncClient(limits=limits, timeout=None) if way == "areal" else None

        async def play(id: str) -> None:
            await workflow.run({"task_id": id}, f"{server}/agent/v1", f"{domain}/{id}", http_client)

        await play(ids[0])
        gc.collect()
        with _stalls() as stalls:
            async with _pulse() as pulse:
                start, cpu_start = time.perf_counter(), time.process_time()
                await _at_most(concurrent, map(play, ids))
                seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        number = sum(calls[id] for id in ids)
        return {
            "episodes_per_s": episodes / seconds,
            "calls_per_s": number / seconds,
            "cpu_ms_per_call": cpu_seconds / number * 1e3,
            "stall_ms": stalls,
            "timer_late_ms": pulse["late_ms"],
            "mb_per_episode": pulse["mb"] / concurrent,
        }

    with tempfile.TemporaryDirectory() as folder, _tau2s_way() if way == "tau2" else nullcontext():
        econfig = {"domain": domain, "user_llm_base_url": f"{server}/user/v1", "timeout": 120}
        workflow = Tau2AgentWorkflow(econfig, output_dir=folder)
        return _run(run(workflow))


def bare(domain: str, our_client: bool, concurrent: int, server: str) -> dict[str, Any]:
    """The calls of such episodes, in random order, made by nothing but an `AsyncOpenAI`, or by nothing but our client."""
    calls: list[tuple[tuple[str, str], dict[str, Any]]] = []
    complete = llm.complete

    async def record(client, model, messages, tools, tool_choice, arguments) -> ChatCompletion:
        chosen = {"tools": tools, "tool_choice": tool_choice} if tools else {}
        calls.append(
            ((str(client.base_url), client.api_key), {"messages": list(messages), **chosen})
        )
        return await complete(client, model, messages, tools, tool_choice, arguments)

    async def run() -> dict[str, Any]:
        workflow = Tau2AgentWorkflow({"domain": domain, "user_llm_base_url": f"{server}/user/v1"})
        with patch.object(llm, "complete", record):
            for id in _task_ids(domain, 25):
                await workflow.run({"task_id": id}, f"{server}/agent/v1", f"{domain}/{id}")
        bare_client = AsyncOpenAI(api_key="none", max_retries=0)
        clients = {
            (url, key): await llm.shared_client(url, key)
            if our_client
            else bare_client.with_options(base_url=url, api_key=key)
            for (url, key), _ in calls
        }

        async def work(until: float) -> int:
            number = 0
            while time.perf_counter() < until:
                to, arguments = random.choice(calls)
                if our_client:
                    messages, tools, tool_choice = (
                        arguments.get(key) for key in ("messages", "tools", "tool_choice")
                    )
                    await complete(clients[to], "default", messages, tools, tool_choice, {})
                else:
                    await clients[to].chat.completions.create(model="default", **arguments)
                number += 1
            return number

        await work(time.perf_counter() + 0.5)
        start = time.perf_counter()
        async with _pulse() as pulse:
            number = sum(await asyncio.gather(*(work(start + SECONDS) for _ in range(concurrent))))
            seconds = time.perf_counter() - start
        return {"calls_per_s": number / seconds, "timer_late_ms": pulse["late_ms"]}

    return _run(run())


# what the measurements share


def _task_ids(domain: str, number: int) -> list[str]:
    """So many base tasks, evenly spaced."""
    ids = environment.task_splits(domain)["base"]
    return ids[:: max(1, len(ids) // number)][:number]


@contextmanager
def _tau2s_way() -> Iterator[None]:
    """What tau2.run.run_task makes for each episode is made for each, with Python's usual garbage collection."""
    made = {
        name: getattr(environment, name)
        for name in ("find_task", "make_environment", "agent_tools", "register_environment")
    }
    threshold = gc.get_threshold()
    environment.find_task = lambda domain, id: next(
        task for task in registry.get_tasks_loader(domain)(None) if task.id == id
    )
    environment.make_environment = lambda domain, solo_mode, *_: registry.get_env_constructor(
        domain
    )(solo_mode=solo_mode)
    environment.agent_tools = environment.agent_tools.__wrapped__
    environment.register_environment = lambda domain, *_: domain
    gc.set_threshold(700, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        for name, function in made.items():
            setattr(environment, name, function)


def _play_alone(
    domain: str, episodes: list[tuple[str, list, list]], db_path: str | None = None
) -> list[float]:
    """CPU ms of each of the episodes (task id, what the agent says, what the user says), after a first one to warm up."""
    prepared = [
        (id, *([ChatCompletion.model_validate(said) for said in side] for side in sides))
        for id, *sides in episodes
    ]

    async def run(folder: str) -> list[float]:
        workflow = Tau2AgentWorkflow(
            {"domain": domain, "user_llm": "user", "max_steps": 1000}, output_dir=folder
        )
        times = []
        for id, says, listens in [prepared[0], *prepared]:
            workflow.user_llm = _in_turn(listens)
            with patch.object(agent, "agent_llm", lambda *_, says=says: _in_turn(says)):
                start = time.process_time()
                await workflow.run(
                    {"task_id": id, "db_path": db_path}, "http://127.0.0.1:9", "none"
                )
                times.append((time.process_time() - start) * 1e3)
        return times[1:]

    with tempfile.TemporaryDirectory() as folder:
        return _run(run(folder))


def _in_turn(completions: list[ChatCompletion]) -> llm.CallLLM:
    queue = iter(completions)

    async def call(*_: Any, **__: Any) -> ChatCompletion:
        return next(queue)

    return call


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    # whoever has imported AReaL gets uvloop's event loop from asyncio.run, whose callbacks `_stalls` cannot time
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(main)


async def _at_most(number: int, coroutines: Iterator) -> None:
    async def work() -> None:
        for coroutine in coroutines:
            await coroutine

    await asyncio.gather(*(work() for _ in range(number)))


@contextmanager
def _stalls() -> Iterator[dict[str, Any]]:
    """How long the event loop's single callbacks take, in ms: nothing else happens meanwhile.

    Where a long one took little CPU time, it was the machine that stopped.
    """
    times: list[float] = []
    stalls: dict[str, Any] = {"long": [], "garbage_collections": []}
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        callback = handle._callback
        start, cpu_start = time.perf_counter(), time.thread_time()
        run(handle)
        times.append((time.perf_counter() - start) * 1e3)
        if times[-1] > STALL:
            cpu_ms = (time.thread_time() - cpu_start) * 1e3
            stalls["long"].append({"ms": times[-1], "cpu_ms": cpu_ms, "callback": _name(callback)})

    began = 0.0

    def collecting(phase: str, _: dict) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        elif (milliseconds := (time.perf_counter() - began) * 1e3) > 1.0:
            stalls["garbage_collections"].append(milliseconds)

    asyncio.Handle._run = timed
    gc.callbacks.append(collecting)
    try:
        yield stalls
    finally:
        asyncio.Handle._run = run
        gc.callbacks.remove(collecting)
        stalls |= {"max": max(times), "p99": statistics.quantiles(times, n=100)[-1]}


def _name(callback: Callable) -> str:
    """Of the coroutine, if it is a task's. No object is asked for its `repr`: that of aiohttp's responses ruins them."""
    task = getattr(callback, "__self__", None)
    named = task.get_coro() if isinstance(task, asyncio.Task) else callback
    return getattr(named, "__qualname__", type(named).__name__)


@asynccontextmanager
async def _pulse() -> AsyncIterator[dict[str, Any]]:
    """How late a timer of 10 ms is, and how much resident memory grows at most."""
    late: list[float] = []
    grown: list[float] = [0.0]

    async def beat() -> None:
        before = _resident_mb()
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.01)
            late.append((time.perf_counter() - start - 0.01) * 1e3)
            grown.append(_resident_mb() - before)

    pulse: dict[str, Any] = {}
    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    yield pulse
    task.cancel()
    pulse |= {"late_ms": {"median": statistics.median(late), "max": max(late)}, "mb": max(grown)}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
