"""Measure what the summary and the report of an evaluation cost, by the number of its episodes.

    python -m benchmarks.summaries      (`make bench`)

One run compares finished evaluations of 1,000 and 10,000 episodes. The two commands are processes
of their own, so that imports count, too. The episodes are two of mock, solved and failed, repeated
under the names of many tasks.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.dataset import task_rows
from tests.own_tasks import mock_entry, write
from tests.scripted import replay, say

# of each evaluation: the number of tasks, each with one trial
SIZES = (1_000, 10_000)
ROOT = Path(__file__).parents[1]
USER, TITLE = "user_1", "Important Meeting"


def main() -> None:
    table: dict[str, list[float]] = defaultdict(list)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            options = finished_evaluation(Path(folder), size, 1)
            for command, arguments in (("evaluate.py", options), ("report.py", [folder])):
                seconds, megabytes = run_command(command, *arguments)
                table[f"{command}, s"].append(seconds)
                table[f"{command}, MB of memory"].append(megabytes)
    print("\n".join(table_lines(SIZES, table)))


def finished_evaluation(folder: Path, tasks: int, trials: int) -> list[str]:
    """Write a tasks file, and an `episodes.jsonl` without a missing trial.

    Returns the options of `evaluate.py` that sum them up.
    """
    path = write(folder, [mock_entry(USER, TITLE)] * tasks)
    solved, failed = asyncio.run(play_twice(path))
    with (folder / "episodes.jsonl").open("wb") as file:
        for trial in range(trials):
            for row in range(1, tasks + 1):
                line = failed if (row + trial) % 3 else solved
                name = f"{path}:{row}:".encode()
                file.write(b"%d %b\n" % (trial, line.replace(f"{path}:1:".encode(), name)))
    options = ["--domain", "mock", "--solo-mode", "--tasks-file", path, "--trials", str(trials)]
    return [*options, "--model", "scripted", "--output", str(folder)]


async def play_twice(path: str) -> list[bytes]:
    """Play the first task of a tasks file, once solved and once failed, and return the JSON."""
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    row = task_rows("mock", path, solo_mode=True)[0]
    done = say(None, ("done", {}))
    create = say(None, ("create_task", {"user_id": USER, "title": TITLE}))
    infos = [await workflow.play_with(replay(turns), row) for turns in ([create, done], [done])]
    return [info.to_json(indent=None) for info in infos]


def run_command(command: str, *options: str) -> tuple[float, float]:
    """Run a command of the example; return its wall-clock seconds, and its peak of memory in MB.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    argv = [sys.executable, f"examples/tau2/{command}", *options]
    start = time.perf_counter()
    with subprocess.Popen(argv, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    # Linux counts ru_maxrss in KiB
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def table_lines(sizes: Sequence[int], table: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Format the values by size, and the ratio of the last to the first."""
    yield f"{'episodes':26}{''.join(f'{size:10,}' for size in sizes)}     ratio"
    for name, values in table.items():
        cells = "".join(f"{value:10.1f}" for value in values)
        yield f"{name:26}{cells}{values[-1] / values[0]:10.1f}"


if __name__ == "__main__":
    main()
