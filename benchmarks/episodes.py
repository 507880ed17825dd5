"""Measures what episodes cost beside the LLM, in tau2's own way and in ours.

    python -m benchmarks.episodes [--json FILE]      (`make bench`)

One run measures both ways, in turn. Scripted LLMs play the expected actions of tau2's base tasks.
In the way called `tau2`, tau2's own
constructors load the tasks, and build the environments of each episode and of its evaluation; the
asynchronous driver is ours. Every measurement has a fresh process. Where CPU time is measured, the
LLMs are functions. Otherwise they are an HTTP server on loopback, in a process of its own, that
answers at once.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.episode_cost import cpu, cpu_of_copies, cpu_per_turn, some_task_ids
from benchmarks.episode_load import (
    AREAL_CONCURRENCY,
    CONCURRENCY,
    TAU2_CONCURRENCY,
    bare,
    load,
)
from benchmarks.episode_table import format_results
from benchmarks.llm_server import serve

T = TypeVar("T")

DOMAINS = ("airline", "retail", "telecom")
TURNS = (10, 50, 100, 200)
COPIES = (1, 4, 16)
START = time.monotonic()
# A fresh process is forked from one that has already imported what it needs.
PROCESSES = get_context("forkserver")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--json", type=Path, default=Path(".cache/bench/episodes.json"), help="file for all numbers"
    )
    path = parser.parse_args().json
    PROCESSES.set_forkserver_preload(["examples.tau2.agent"])
    server = start_server()
    with ProcessPoolExecutor(1, PROCESSES, max_tasks_per_child=1) as pool:
        results = {
            "machine": f"{os.cpu_count()} x {platform.machine()}, "
            f"Python {platform.python_version()}",
            "domains": {domain: measure_domain(pool, domain, server) for domain in DOMAINS},
            "cpu_ms_per_turn": {turns: measure(pool, cpu_per_turn, turns) for turns in TURNS},
            "cpu_ms_by_copies": {copies: measure(pool, cpu_of_copies, copies) for copies in COPIES},
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    print(format_results(results))
    print(f"\nall numbers: {path}")


def start_server() -> str:
    """Start the LLM server in a process of its own; return its URL."""
    receiver, sender = PROCESSES.Pipe()
    PROCESSES.Process(target=serve, args=(DOMAINS, sender), daemon=True).start()
    return receiver.recv()


def measure(pool: ProcessPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a process of the pool, and print the call as progress."""
    seconds = time.monotonic() - START
    print(f"{seconds:4.0f} s  {function.__name__}", *arguments, file=sys.stderr, flush=True)
    return pool.submit(function, *arguments).result()


def measure_domain(pool: ProcessPoolExecutor, domain: str, server: str) -> dict[str, Any]:
    """Measure all that depends on the domain; the keys are those of the JSON file."""
    cpu_ms = measure_cpu(domain)
    tau2 = measure(pool, load, domain, "tau2", TAU2_CONCURRENCY, server)
    ours = {number: measure(pool, load, domain, "ours", number, server) for number in CONCURRENCY}
    areal = measure(pool, load, domain, "areal", AREAL_CONCURRENCY, server)
    bare_openai = {
        number: measure(pool, bare, domain, False, number, server) for number in CONCURRENCY
    }
    bare_ours = {
        number: measure(pool, bare, domain, True, number, server) for number in CONCURRENCY
    }
    return {
        "cpu_ms": cpu_ms,
        "tau2": tau2,
        "ours": ours,
        "areal": areal,
        "bare": bare_openai,
        "bare_ours": bare_ours,
    }


def measure_cpu(domain: str) -> dict[str, list[float]]:
    """Measure both ways by turns, each in a process of its own.

    The speed of a shared machine changes from one second to the next, so both ways see the same.
    """
    task_ids = some_task_ids(domain, 50)
    times: dict[str, list[float]] = {"tau2": [], "ours": []}
    with ProcessPoolExecutor(1, PROCESSES) as tau2, ProcessPoolExecutor(1, PROCESSES) as ours:
        for number in range(10):
            chosen = task_ids[number::10]
            times["tau2"] += measure(tau2, cpu, domain, "tau2", chosen[:1])
            times["ours"] += measure(ours, cpu, domain, "ours", chosen)
    return times


if __name__ == "__main__":
    main()
