"""Play episodes of telecom solo in a local AEnvironment service, and measure what they cost.

    python -m aenv.examples.tau2_rl.demo [--base_url http://localhost:8000/v1 --model <name>]

Without `--base_url` the policy is a script that does what each task expects. With it, a real model
plays.
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

from examples.tau2 import quiet_tau2

quiet_tau2()

from aenv.examples.tau2_rl.agent import run_agent_return_reward
from aenv.examples.tau2_rl.conversation import open_conversation
from aenv.examples.tau2_rl.sdk_environment import environment_variables
from aenv.examples.tau2_rl.service import ENVIRONMENT_FOLDER, ROOT
from aenv.examples.tau2_rl.service.server import running_service
from examples.tau2.episode import environment
from examples.tau2.episode.failures import describe_error
from examples.tau2.episode.network import exempt_from_proxies
from examples.tau2.episode.variables import require_variables

# how many instances are started one after the other, to measure one alone
ONE_BY_ONE = 8


def main(argv: list[str]) -> int:
    """Run the demo and return the exit status.

    It is 1 if the service does not start, an episode fails, or the script does not earn every
    reward.
    """
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
    try:
        require_variables()
    except ValueError as error:
        parser.error(str(error))
    exempt_from_proxies([options.host, "127.0.0.1"])
    logging.getLogger("aenv").setLevel(logging.CRITICAL)
    rows = solo_rows(options.episodes)
    try:
        with running_service(options.host) as url:
            os.environ["AENV_SYSTEM_URL"] = url
            print_costs(rows)
            if options.base_url:
                key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
                rewards = asyncio.run(play_all(rows, options.base_url, key, options.model))
            else:
                with scripted_policy() as policy_url:
                    rewards = asyncio.run(play_all(rows, policy_url, "telecom/{task_id}", "script"))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    has_failures = len(rewards) < len(rows)
    script_lost = not options.base_url and min(rewards, default=0.0) < 1.0
    return 1 if has_failures or script_lost else 0


def solo_rows(number: int) -> list[dict]:
    """Make rows of the first `number` tasks of telecom that can be played solo."""
    rows = []
    for task_id in environment.task_splits("telecom")["base"]:
        if environment.playable_solo(environment.find_task("telecom", task_id)):
            rows.append({"domain": "telecom", "task_id": task_id, "solo_mode": True})
    return rows[:number]


async def play_all(rows: list[dict], base_url: str, api_key: str, model: str | None) -> list[float]:
    """Play all episodes at once; print and return the rewards of those that have one.

    `api_key` may contain `{task_id}`, which stands for the task of each episode.
    """
    start = time.perf_counter()

    async def play(row: dict) -> float | None:
        key = api_key.replace("{task_id}", row["task_id"])
        try:
            reward = await run_agent_return_reward(row, base_url=base_url, api_key=key, model=model)
        except Exception as error:
            print(f"  failed  {row['task_id']}: {describe_error(error)}", flush=True)
            return None
        print(f"  {reward:.1f}  {row['task_id']}", flush=True)
        return reward

    outcomes = await asyncio.gather(*(play(row) for row in rows))
    rewards = [reward for reward in outcomes if reward is not None]
    seconds = time.perf_counter() - start
    mean = f"{statistics.mean(rewards):.2f}" if rewards else "-"
    print(
        f"{len(rewards)} of {len(rows)} episodes, at once: "
        f"mean reward {mean}, {seconds:.1f} s in all"
    )
    return rewards


def print_costs(rows: list[dict]) -> None:
    """Print what an instance costs, and what a server of its own costs, as in a container."""
    cold_seconds, cold_memory = start_own_server(rows[0])
    # the first instance waits until the service has read tau2's files
    asyncio.run(start_one_by_one(rows[:1]))
    alone = statistics.median(asyncio.run(start_one_by_one(rows[:ONE_BY_ONE])))
    seconds, memory = asyncio.run(start_at_once(rows))
    lines = [
        ("an instance", "ready after", "its memory"),
        ("a server of its own", f"{cold_seconds:.2f} s", f"{cold_memory:.0f} MB"),
        ("one of the service, alone", f"{alone:.2f} s", ""),
        (f"each of {len(rows)} at once", f"{seconds / len(rows):.2f} s", f"{memory:.0f} MB"),
        ("own server : forked", f"{cold_seconds / alone:.0f}x", f"{cold_memory / memory:.0f}x"),
    ]
    print()
    for what, ready_after, its_memory in lines:
        print(f"{what:34}{ready_after:>12}{its_memory:>12}")
    print(flush=True)


async def start_one_by_one(rows: list[dict]) -> list[float]:
    """Start an instance for each row, one after the other; return the seconds that each took.

    An instance has started when its prompt, tools and first messages have been fetched.
    """
    times = []
    for row in rows:
        start = time.perf_counter()
        async with open_conversation(row):
            times.append(time.perf_counter() - start)
    return times


async def start_at_once(rows: list[dict]) -> tuple[float, float]:
    """Start an instance for each row, all at once.

    Returns the seconds until all have started, and the MB of memory that an instance has for itself
    (the median of their unique set sizes).
    """
    start = time.perf_counter()
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(open_conversation(row)) for row in rows))
        seconds = time.perf_counter() - start
        memory = statistics.median(unique_memory(process) for process in instance_processes())
    return seconds, memory


def instance_processes() -> list[psutil.Process]:
    """List the processes of all instances: children of the fork server, the service's child."""
    instances = []
    for service in psutil.Process().children():
        for fork_server in service.children():
            instances += fork_server.children()
    return instances


def unique_memory(process: psutil.Process) -> float:
    """Measure the MB of memory that a process shares with no other."""
    return process.memory_full_info().uss / 1e6


def start_own_server(row: dict) -> tuple[float, float]:
    """Serve an instance by `python -m aenv.main`; return its seconds to start, and its MB."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "aenv.main",
        str(ENVIRONMENT_FOLDER / "src"),
        "--port",
        str(port),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment_variables(row)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/functions/tau2_get_status"
    try:
        while not answers(url):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
            time.sleep(0.05)
        return time.perf_counter() - start, unique_memory(psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Tell whether a POST to the URL is answered."""
    request = Request(url, b"{}", {"Content-Type": "application/json"})
    try:
        urlopen(request, timeout=60).close()
    except OSError:
        return False
    return True


@contextmanager
def scripted_policy() -> Iterator[str]:
    """Serve an LLM that does what the task expects; yield its URL.

    The API key of a request names the task.
    """
    from benchmarks.llm_server import serve

    context = get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=serve, args=(("telecom",), sender, True), daemon=True)
    process.start()
    try:
        yield f"{receiver.recv()}/agent/v1"
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
