"""Workers on a real Slurm cluster of this machine: jobs are watched, and end with the trainer."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from areal.api.cli_args import load_expr_config
from areal.api.scheduler_api import Job

from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.training.supervisor import supervise
from examples.tau2.utils import Tau2PPOConfig
from tests.slurm_cluster import ask, cluster, missing
from tests.stack import ROOT
from tests.waiting import until


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of Slurm's commands."""
    if why := missing():
        pytest.skip(why)
    with cluster(tmp_path_factory.mktemp("slurm")) as variables:
        yield {**os.environ, **variables}


@pytest.fixture(scope="module")
def fork_server():
    """The context that forks trainers; it imports once, for all of them, what they need."""
    context = multiprocessing.get_context("forkserver")
    # AReaL imports the second when it loads a config
    context.set_forkserver_preload([__name__, "areal.utils.stats_logger"])
    return context


@pytest.fixture
def trainer(slurm, fork_server, tmp_path) -> Iterator[BaseProcess]:
    """A process with a job, after the job has begun to run.

    It prints to `tmp_path / "printed"`, and ends by the code in `tmp_path / "end"`.
    """
    process = fork_server.Process(target=train, args=(tmp_path, slurm))
    process.start()
    try:
        until(lambda: "None" in printed_lines(tmp_path) or not process.is_alive())
        assert process.is_alive()
        until(lambda: states(slurm) == ["RUNNING"])
        yield process
    finally:
        process.kill()
        process.join()
    until(lambda: states(slurm) == [])


def train(folder: Path, variables: dict[str, str]) -> None:
    """Start workers and watch them, as a trainer does."""
    os.environ.update(variables)
    # a shell that runs these tests in the background ignores SIGINT, and so would this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(folder / "printed", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, sys.stdout.fileno())
    options = [
        *("--config", f"{ROOT}/examples/tau2/config_cpu.yaml", f"cluster.fileroot={folder}"),
        *("experiment_name=test", "trial_name=trial", "scheduler.type=slurm"),
    ]

    def run(_set_deadline) -> int:
        config, _ = load_expr_config(options, Tau2PPOConfig)
        workers, end = SlurmWorkers(config), folder / "end"
        tasks = list(config.rollout.scheduling_spec)
        workers.create_workers(Job(role="rollout", replicas=1, tasks=tasks))
        while not end.exists():
            print(workers.lost_job(), flush=True)
            time.sleep(0.2)
        exec(end.read_text())
        return 0

    sys.exit(supervise(run))


def printed_lines(folder: Path) -> list[str]:
    """The whole lines that the trainer has printed."""
    path = folder / "printed"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def states(slurm: dict[str, str]) -> list[str]:
    """The states of the jobs in the queue."""
    return ask(slurm, "squeue", "--noheader", "--format=%T").split()


def reason(trainer: BaseProcess, folder: Path) -> str:
    """Wait for the reason that the trainer prints when its job is lost, and return it."""

    def reasons() -> list[str]:
        lines = printed_lines(folder)
        # before the job ran, the trainer printed that it was pending
        after_the_start = lines[lines.index("None") :]
        return [line for line in after_the_start if line.startswith("Slurm's job")]

    until(lambda: reasons() or not trainer.is_alive())
    return reasons()[0]


@pytest.mark.parametrize(
    "how", ["pass", "raise RuntimeError('it failed')", "os.kill(os.getpid(), 9)"]
)
def test_a_job_ends_with_its_trainer(slurm, trainer, tmp_path, how):
    (tmp_path / "written").write_text(how)
    (tmp_path / "written").rename(tmp_path / "end")
    until(lambda: states(slurm) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_its_supervisor(slurm, trainer, number):
    os.kill(trainer.pid, number)
    until(lambda: states(slurm) == [])


def test_a_cancelled_job_is_lost(slurm, trainer, tmp_path):
    ask(slurm, "scancel", "--name=test_trial:rollout")
    assert "of the rollout workers is CANCELLED; see " in reason(trainer, tmp_path)


def test_without_an_answer_of_the_controller_no_job_is_lost(slurm, monkeypatch):
    workers = SlurmWorkers.__new__(SlurmWorkers)
    workers._jobs = {"rollout": 1}
    monkeypatch.setenv("SLURM_CONF", "/nonexistent")
    assert workers.lost_job() is None


def test_a_job_whose_node_is_lost_does_not_begin_anew(slurm, trainer, tmp_path):
    node = ask(slurm, "squeue", "--noheader", "--format=%N").strip()
    ask(slurm, "scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    assert "of the rollout workers is NODE_FAIL; see " in reason(trainer, tmp_path)
    assert states(slurm) == []
