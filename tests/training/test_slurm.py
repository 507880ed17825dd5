"""Workers on a real Slurm cluster of this machine: their jobs are watched, and end with the trainer."""

import os
import signal
import subprocess
import sys
import time

import pytest

from examples.tau2.training.slurm import SlurmWorkers
from tests.slurm_cluster import ask, cluster, missing
from tests.stack import ROOT

TRAINER = """
import os, sys, time
from pathlib import Path
from areal.api.cli_args import load_expr_config
from areal.api.scheduler_api import Job
from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.training.supervisor import supervise
from examples.tau2.utils import Tau2PPOConfig

def run(_):
    config, _ = load_expr_config(sys.argv[2:], Tau2PPOConfig)
    workers, end = SlurmWorkers(config), Path(sys.argv[1])
    workers.create_workers(Job(role="rollout", replicas=1, tasks=list(config.rollout.scheduling_spec)))
    while not end.exists():
        print(workers.lost(), flush=True)
        time.sleep(0.2)
    exec(end.read_text())
    return 0

sys.exit(supervise(run))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of Slurm's commands."""
    if why := missing():
        pytest.skip(why)
    with cluster(tmp_path_factory.mktemp("slurm")) as variables:
        yield {**os.environ, **variables}


@pytest.fixture
def trainer(slurm, tmp_path):
    """A process with a job, after the job has begun to run."""
    options = (
        *(
            "--config",
            f"{ROOT}/examples/tau2/config_cpu.yaml",
            f"cluster.fileroot={tmp_path}",
            "trial_name=trial",
        ),
        *("scheduler.type=slurm", "experiment_name=test"),
    )
    words = [sys.executable, "-c", TRAINER, str(tmp_path / "end"), *options]
    with subprocess.Popen(words, cwd=ROOT, env=slurm, stdout=subprocess.PIPE, text=True) as process:
        assert "None\n" in process.stdout
        until(lambda: states(slurm) == ["RUNNING"])
        yield process
        process.kill()
    until(lambda: states(slurm) == [])


def states(slurm: dict[str, str]) -> list[str]:
    """Of the jobs in the queue."""
    return ask(slurm, "squeue", "--noheader", "--format=%T").split()


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def complaint(trainer: subprocess.Popen) -> str:
    return next(line for line in trainer.stdout if line.startswith("Slurm's job"))


@pytest.mark.parametrize(
    "how", ["pass", "raise RuntimeError('it failed')", "os.kill(os.getpid(), 9)"]
)
def test_a_job_ends_with_its_trainer(slurm, trainer, tmp_path, how):
    (tmp_path / "written").write_text(how)
    (tmp_path / "written").rename(tmp_path / "end")
    until(lambda: states(slurm) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_its_supervisor(slurm, trainer, number):
    trainer.send_signal(number)
    until(lambda: states(slurm) == [])


def test_a_cancelled_job_is_a_complaint(slurm, trainer):
    ask(slurm, "scancel", "--name=test_trial:rollout")
    assert "of the rollout workers is CANCELLED; see " in complaint(trainer)


def test_a_controller_that_does_not_answer_is_no_complaint(slurm, monkeypatch):
    workers = SlurmWorkers.__new__(SlurmWorkers)
    workers._jobs = {"rollout": 1}
    monkeypatch.setenv("SLURM_CONF", "/nonexistent")
    assert workers.lost() is None


def test_a_lost_node_is_a_complaint_and_the_job_does_not_begin_anew(slurm, trainer):
    node = ask(slurm, "squeue", "--noheader", "--format=%N").strip()
    ask(slurm, "scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    assert "of the rollout workers is NODE_FAIL; see " in complaint(trainer)
    assert states(slurm) == []
