"""A thousand episodes at once in one process for ten minutes: memory, tasks and connections stay what they are."""

import asyncio
import gc
import multiprocessing
import time
from itertools import cycle

import numpy as np
import psutil

from benchmarks.llm_server import serve
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment

DOMAINS = ("airline", "retail")
CONCURRENT = 1000
SECONDS, EVERY = 600, 10


def test_nothing_grows_and_every_episode_is_accounted_for(tmp_path, capsys):
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(DOMAINS, there), daemon=True
    )
    server.start()
    url = here.recv()
    user = {"user_llm_base_url": f"{url}/user/v1"}
    workflows = {
        domain: Tau2AgentWorkflow({"domain": domain, **user}, output_dir=None) for domain in DOMAINS
    }
    tasks = [(domain, id) for domain in DOMAINS for id in environment.task_splits(domain)["base"]]
    counts = dict.fromkeys(("started", "finished", "rejected"), 0)
    seen: list[tuple[int, int, int]] = []  # bytes, asyncio tasks, file descriptors

    async def player(number: int, end: float) -> None:
        for domain, id in cycle(tasks[number % len(tasks) :] + tasks[: number % len(tasks)]):
            if time.monotonic() > end:
                return
            counts["started"] += 1
            try:
                await workflows[domain].run({"task_id": id}, f"{url}/agent/v1", f"{domain}/{id}")
                counts["finished"] += 1
            except EpisodeRejected:
                counts["rejected"] += 1

    async def play() -> None:
        process, end = psutil.Process(), time.monotonic() + SECONDS
        players = [asyncio.create_task(player(number, end)) for number in range(CONCURRENT)]
        while time.monotonic() < end:
            await asyncio.sleep(EVERY)
            seen.append((process.memory_info().rss, len(asyncio.all_tasks()), process.num_fds()))
        await asyncio.gather(*players)
        gc.collect()
        seen.append((process.memory_info().rss, len(asyncio.all_tasks()), process.num_fds()))

    asyncio.run(play())
    server.terminate()
    *steady, after = np.array(seen)
    middle, last = np.array_split(np.array(steady), 3)[1:]
    with capsys.disabled():
        names = ("MB", "asyncio tasks", "file descriptors")
        highest = (
            np.round([part.max(0) / [1e6, 1, 1] for part in (middle, last, after[None])])
            .astype(int)
            .T.tolist()
        )
        print(f"\n{counts}; at most in the second third, in the last, and afterwards:")
        print(dict(zip(names, highest, strict=True)))
    assert counts["started"] == counts["finished"] + counts["rejected"]
    assert counts["rejected"] == 0 and counts["finished"] > CONCURRENT
    assert (last.max(0) <= 1.05 * middle.max(0)).all()
    assert after[1] == 1
