"""Episodes of telecom solo in a local AEnvironment service, and what they cost.

    python -m aenv.examples.tau2_rl.demo [--base_url http://localhost:8000/v1 --model <name>]

Without `--base_url` the policy is a script that does what each task expects. With it, a real model plays.
"""

import argparse
import asyncio
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from multiprocessing import get_context
from urllib.request import Request, urlopen

import psutil

os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # tau2 says a lot when imported

from aenv.examples.tau2_rl import service
from aenv.examples.tau2_rl.agent import environment_variables, opened, run_agent_return_reward
from examples.tau2.episode.llm import describe_error

IN_TURN = 8  # instances, each alone


def main(argv: list[str]) -> int:
    """Exit status: 1 if the service does not start, an episode failed, or the script did not earn every reward."""
    parser = argparse.ArgumentParser(
        description="Play episodes of telecom solo in a local AEnvironment service."
    )
    parser.add_argument("--base_url", help="the policy's server; default: a script")
    parser.add_argument("--model", help="default: OPENAI_DEFAULT_MODEL")
    parser.add_argument("--episodes", type=int, default=32, help="at once (default: 32)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="of the service: any of 127.x.y.z (default: 127.0.0.1)"
    )
    options = parser.parse_args(argv)
    logging.getLogger("aenv").setLevel(logging.CRITICAL)
    data = solo_tasks(options.episodes)
    try:
        with service.running(options.host) as os.environ["AENV_SYSTEM_URL"]:
            costs(data)
            if options.base_url:
                key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
                rewards = asyncio.run(play(data, options.base_url, key, options.model))
            else:
                with scripted_policy() as url:
                    rewards = asyncio.run(play(data, url, "telecom/{task_id}", "script"))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return int(len(rewards) < len(data) or (not options.base_url and min(rewards) < 1.0))


def solo_tasks(number: int) -> list[dict]:
    """Rows of the first tasks of telecom that can be played solo."""
    from examples.tau2.episode import environment

    tasks = map(environment.load_tasks("telecom").get, environment.task_splits("telecom")["base"])
    ids = [task.id for task in tasks if environment.playable_solo(task)]
    return [{"domain": "telecom", "task_id": id, "solo_mode": True} for id in ids[:number]]


async def play(data: list[dict], base_url: str, api_key: str, model: str | None) -> list[float]:
    """Play all at once; print and return the rewards, without those of episodes that say nothing about the policy."""
    start = time.perf_counter()

    async def episode(row: dict) -> float | None:
        try:
            reward = await run_agent_return_reward(
                row, base_url=base_url, api_key=api_key.format(**row), model=model
            )
        except Exception as error:
            print(f"  failed  {row['task_id']}: {describe_error(error)}", flush=True)
            return None
        print(f"  {reward:.1f}  {row['task_id']}", flush=True)
        return reward

    rewards = [reward for reward in await asyncio.gather(*map(episode, data)) if reward is not None]
    seconds = time.perf_counter() - start
    mean = f"{statistics.mean(rewards):.2f}" if rewards else "-"
    print(
        f"{len(rewards)} of {len(data)} episodes, at once: mean reward {mean}, {seconds:.1f} s in all"
    )
    return rewards


def costs(data: list[dict]) -> None:
    """Print what an instance costs, and what one would that is a server of its own, as in a container."""
    cold = cold_server(data[0])
    asyncio.run(in_turn(data[:1]))  # the first waits until the service has read tau2's files
    alone = statistics.median(asyncio.run(in_turn(data[:IN_TURN])))
    seconds, memory = asyncio.run(at_once(data))
    rows = [
        ("a server of its own", f"{cold['seconds']:.2f} s", f"{cold['memory']:.0f} MB"),
        ("one of the service, alone", f"{alone:.2f} s", ""),
        (f"each of {len(data)} at once", f"{seconds / len(data):.2f} s", f"{memory:.0f} MB"),
    ]
    print(f"\n{'an instance':34}{'ready after':>12}{'its memory':>12}")
    for row in rows:
        print(f"{row[0]:34}{row[1]:>12}{row[2]:>12}")
    print(
        f"{'own server : forked':34}{cold['seconds'] / alone:>11.0f}x{cold['memory'] / memory:>11.0f}x\n",
        flush=True,
    )


async def in_turn(data: list[dict]) -> list[float]:
    """Seconds until an instance is ready: created, healthy, its prompt, tools and first messages fetched."""
    times = []
    for row in data:
        start = time.perf_counter()
        async with opened(row):
            times.append(time.perf_counter() - start)
    return times


async def at_once(data: list[dict]) -> tuple[float, float]:
    """Seconds until all are ready, and MB that an instance has for itself (its unique set size)."""
    start = time.perf_counter()
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(opened(row)) for row in data))
        seconds = time.perf_counter() - start
        here = psutil.Process()
        depth = len(here.parents()) + 4  # this process, the service, the fork server, its children
        instances = [
            process
            for process in here.children(recursive=True)
            if len(process.parents()) + 1 == depth
        ]
        memory = statistics.median(process.memory_full_info().uss / 1e6 for process in instances)
    return seconds, memory


def cold_server(row: dict) -> dict[str, float]:
    """Seconds until `python -m aenv.main` serves the environment, and its memory in MB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aenv.main", str(service.FOLDER / "src"), "--port", str(port)]
    variables = {**os.environ, **environment_variables(row)}
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=service.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                url = f"http://127.0.0.1:{port}/functions/tau2_get_status"
                urlopen(
                    Request(url, b"{}", {"Content-Type": "application/json"}), timeout=60
                ).close()
                break
            except ConnectionError:
                time.sleep(0.05)
            except OSError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        return {
            "seconds": time.perf_counter() - start,
            "memory": psutil.Process(process.pid).memory_full_info().uss / 1e6,
        }
    finally:
        process.kill()
        process.wait()


@contextmanager
def scripted_policy() -> Iterator[str]:
    """The URL of an LLM server that does what is expected of the task that the API key names."""
    from benchmarks.llm_server import serve

    processes = get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=serve, args=(("telecom",), there, True), daemon=True)
    process.start()
    try:
        yield f"{here.recv()}/agent/v1"
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
