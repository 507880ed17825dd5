"""A thousand episodes at once for ten minutes: memory, tasks and connections do not grow."""

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import numpy as np
import psutil

from benchmarks.llm_server import serve
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment

DOMAINS = ("airline", "retail")
CONCURRENT = 1000
# seconds that episodes are played, and seconds between two measurements
SECONDS = 600
INTERVAL = 10


@contextmanager
def scripted_llms() -> Iterator[str]:
    """Serve agents and users in a process of their own, and yield the URL."""
    receiver, sender = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(DOMAINS, sender), daemon=True)
    server.start()
    try:
        yield receiver.recv()
    finally:
        server.terminate()


async def play(url: str) -> tuple[dict[str, int], np.ndarray]:
    """Play episodes; return their counts, and what was measured.

    Each row of a measurement is MB of memory, asyncio tasks, file descriptors. The last one was
    made after all episodes.
    """
    user = {"user_llm_base_url": f"{url}/user/v1"}
    workflows, tasks = {}, []
    for domain in DOMAINS:
        workflows[domain] = Tau2AgentWorkflow({"domain": domain, **user}, output_dir=None)
        tasks += [(domain, task_id) for task_id in environment.task_splits(domain)["base"]]
    counts = {"started": 0, "finished": 0, "rejected": 0}
    process, end = psutil.Process(), time.monotonic() + SECONDS

    async def player(number: int) -> None:
        first = number % len(tasks)
        for domain, task_id in cycle(tasks[first:] + tasks[:first]):
            if time.monotonic() > end:
                return
            counts["started"] += 1
            data, key = {"task_id": task_id}, f"{domain}/{task_id}"
            try:
                await workflows[domain].run(data, f"{url}/agent/v1", key)
                counts["finished"] += 1
            except EpisodeRejected:
                counts["rejected"] += 1

    def measure() -> tuple[float, int, int]:
        return process.memory_info().rss / 1e6, len(asyncio.all_tasks()), process.num_fds()

    measured = []
    players = [asyncio.create_task(player(number)) for number in range(CONCURRENT)]
    while time.monotonic() < end:
        await asyncio.sleep(INTERVAL)
        measured.append(measure())
    await asyncio.gather(*players)
    gc.collect()
    measured.append(measure())
    return counts, np.array(measured)


def test_nothing_grows_and_every_episode_is_accounted_for(capsys):
    with scripted_llms() as url:
        counts, measured = asyncio.run(play(url))
    after = measured[-1]
    _, middle, last = np.array_split(measured[:-1], 3)
    with capsys.disabled():
        print(f"\n{counts}; at most in the second third, in the last, and afterwards:")
        for column, name in enumerate(("MB", "asyncio tasks", "file descriptors")):
            highest = middle[:, column].max(), last[:, column].max(), after[column]
            print(name, [round(value) for value in highest])
    assert counts["started"] == counts["finished"] + counts["rejected"]
    assert counts["rejected"] == 0 and counts["finished"] > CONCURRENT
    assert (last.max(0) <= 1.05 * middle.max(0)).all()
    assert after[1] == 1
