"""Measures many concurrent episodes, and bare clients that make the same calls, over HTTP."""

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any
from unittest.mock import patch

import httpx
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from benchmarks.episode_cost import expected_episode, some_task_ids
from benchmarks.event_loop import measured_pulse, measured_stalls, run_timed
from benchmarks.stock_tau2 import stock_tau2
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import llm

# numbers of concurrent episodes
CONCURRENCY = (1, 16, 64, 256)
# with 256, tau2's way would take five minutes for each domain
TAU2_CONCURRENCY = 16
AREAL_CONCURRENCY = 64
# seconds that a bare client is measured
SECONDS = 3.0
WARM_UP_SECONDS = 0.5


def load(domain: str, way: str, concurrent: int, server: str) -> dict[str, Any]:
    """Play episodes against the HTTP server, `concurrent` at a time.

    The ways are "tau2", "ours" and "areal": ours with an HTTP client like the one that AReaL
    passes to the workflow.
    """
    with tempfile.TemporaryDirectory() as folder, stock_tau2() if way == "tau2" else nullcontext():
        econfig = {"domain": domain, "user_llm_base_url": f"{server}/user/v1", "timeout": 120}
        workflow = Tau2AgentWorkflow(econfig, output_dir=folder)
        return run_timed(_measure_load(workflow, domain, way, concurrent, server))


async def _measure_load(
    workflow: Tau2AgentWorkflow, domain: str, way: str, concurrent: int, server: str
) -> dict[str, Any]:
    http_client = None
    if way == "areal":
        # the limits of AReaL 1.0.4: areal.infra.utils.http.get_default_httpx_limits
        limits = httpx.Limits(
            max_connections=4096, max_keepalive_connections=1024, keepalive_expiry=30
        )
        http_client = httpx.AsyncClient(limits=limits, timeout=None)

    async def play(task_id: str) -> None:
        data = {"task_id": task_id}
        await workflow.run(data, f"{server}/agent/v1", f"{domain}/{task_id}", http_client)

    episodes = concurrent if way == "tau2" else max(concurrent, 48)
    task_ids = list(islice(cycle(some_task_ids(domain, 50)), episodes))
    calls = {task_id: _call_count(domain, task_id) for task_id in set(task_ids)}
    total_calls = sum(calls[task_id] for task_id in task_ids)
    await play(task_ids[0])
    gc.collect()
    with measured_stalls() as stalls:
        async with measured_pulse() as pulse:
            start, cpu_start = time.perf_counter(), time.process_time()
            await _run_at_most(concurrent, map(play, task_ids))
            seconds = time.perf_counter() - start
            cpu_seconds = time.process_time() - cpu_start
    return {
        "episodes_per_s": episodes / seconds,
        "calls_per_s": total_calls / seconds,
        "cpu_ms_per_call": cpu_seconds / total_calls * 1e3,
        "stall_ms": asdict(stalls),
        "timer_late_ms": pulse.late_ms,
        "mb_per_episode": pulse.grown_mb / concurrent,
    }


def _call_count(domain: str, task_id: str) -> int:
    """Count the LLM calls of an episode of the task."""
    episode = expected_episode(domain, task_id)
    return len(episode.agent) + len(episode.user)


async def _run_at_most(number: int, coroutines: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines, `number` of them at a time."""

    async def work() -> None:
        for coroutine in coroutines:
            await coroutine

    await asyncio.gather(*(work() for _ in range(number)))


@dataclass
class RecordedCall:
    """A chat completion that an episode asked a server for."""

    base_url: str
    api_key: str
    messages: list[dict]
    tools: list[dict] | None
    tool_choice: str | None


def bare(domain: str, our_client: bool, concurrent: int, server: str) -> dict[str, Any]:
    """Measure clients that make the calls of the domain's episodes in random order.

    No episode is played meanwhile. The clients are ours, or else an `AsyncOpenAI`.
    """
    return run_timed(_measure_bare(domain, our_client, concurrent, server))


async def _measure_bare(
    domain: str, our_client: bool, concurrent: int, server: str
) -> dict[str, Any]:
    calls = await _record_calls(domain, server)
    clients = await _make_clients(calls, our_client)
    make_call = _call_with_ours if our_client else _call_with_openai

    async def work(until: float) -> int:
        number = 0
        while time.perf_counter() < until:
            call = random.choice(calls)
            await make_call(clients[call.base_url, call.api_key], call)
            number += 1
        return number

    await work(time.perf_counter() + WARM_UP_SECONDS)
    start = time.perf_counter()
    async with measured_pulse() as pulse:
        numbers = await asyncio.gather(*(work(start + SECONDS) for _ in range(concurrent)))
        seconds = time.perf_counter() - start
    return {"calls_per_s": sum(numbers) / seconds, "timer_late_ms": pulse.late_ms}


async def _record_calls(domain: str, server: str) -> list[RecordedCall]:
    """Record the calls of 25 episodes."""
    calls: list[RecordedCall] = []
    complete = llm.complete

    async def record(
        client: AsyncOpenAI,
        model: str,
        messages: list[dict],
        tools: list[dict] | None,
        tool_choice: str | None,
        arguments: dict[str, Any],
    ) -> ChatCompletion:
        call = RecordedCall(
            str(client.base_url), client.api_key, list(messages), tools, tool_choice
        )
        calls.append(call)
        return await complete(client, model, messages, tools, tool_choice, arguments)

    workflow = Tau2AgentWorkflow({"domain": domain, "user_llm_base_url": f"{server}/user/v1"})
    with patch.object(llm, "complete", record):
        for task_id in some_task_ids(domain, 25):
            data = {"task_id": task_id}
            await workflow.run(data, f"{server}/agent/v1", f"{domain}/{task_id}")
    return calls


async def _make_clients(
    calls: list[RecordedCall], our_client: bool
) -> dict[tuple[str, str], AsyncOpenAI]:
    """Make a client for each base URL and API key; clients of one server share connections."""
    bare_client = AsyncOpenAI(api_key="none", max_retries=0)
    clients: dict[tuple[str, str], AsyncOpenAI] = {}
    for url, key in {(call.base_url, call.api_key) for call in calls}:
        if our_client:
            clients[url, key] = await llm.shared_client(url, key)
        else:
            clients[url, key] = bare_client.with_options(base_url=url, api_key=key)
    return clients


async def _call_with_ours(client: AsyncOpenAI, call: RecordedCall) -> None:
    tool_choice = call.tool_choice if call.tools else None
    await llm.complete(client, "default", call.messages, call.tools, tool_choice, {})


async def _call_with_openai(client: AsyncOpenAI, call: RecordedCall) -> None:
    arguments: dict[str, Any] = {"messages": call.messages}
    if call.tools:
        arguments |= {"tools": call.tools, "tool_choice": call.tool_choice}
    await client.chat.completions.create(model="default", **arguments)
