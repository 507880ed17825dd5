"""Faults of AReaL's schedulers as they are, and that ours have none of them. No job is started."""

import asyncio
import inspect
import socket
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from areal import PPOTrainer
from areal.api.cli_args import SchedulingSpec, load_expr_config
from areal.infra import LocalScheduler, RayScheduler, SlurmScheduler

from examples.tau2.training.areal.features import runs_agents_under_ray
from examples.tau2.training.areal.schedulers import (
    PatchedSlurmScheduler,
    failed_worker,
    wait_for_forked_workers,
)
from examples.tau2.training.trainer import START_TIMEOUT, Tau2PPOTrainer
from examples.tau2.utils import Tau2PPOConfig
from tests.stack import ROOT

# -- Slurm ---------------------------------------------------------------------------------------


def slurm_script(scheduler_class: type[SlurmScheduler], folder: Path, gpus_per_node: int) -> str:
    """Return the batch script for a worker without GPUs and without a container."""
    scheduler = scheduler_class(
        n_gpus_per_node=gpus_per_node,
        experiment_name="test",
        trial_name="trial",
        fileroot=str(folder),
        container_type="none",
        nfs_record_root=str(folder),
    )
    spec = SchedulingSpec(cmd="python3 -m a.worker", env_vars={"GREETING": "hello world"})
    return scheduler._generate_sbatch_script(
        role="rollout",
        replicas=1,
        nodes=1,
        total_gpus=0,
        cpus_per_task=1,
        mem_per_task=1024,
        schedulings=[spec],
        nodelist=None,
        exclude=None,
    )


def test_areals_scheduler_divides_by_the_gpus_of_a_node_without_gpus(tmp_path):
    with pytest.raises(ZeroDivisionError):
        slurm_script(SlurmScheduler, tmp_path, gpus_per_node=0)


def test_ours_starts_workers_on_a_node_without_gpus(tmp_path):
    script = slurm_script(PatchedSlurmScheduler, tmp_path, gpus_per_node=0)
    assert "#SBATCH --nodes=1" in script and "gres" not in script


def test_areals_scheduler_drops_the_variables_of_workers_without_a_container(tmp_path):
    assert "GREETING" not in slurm_script(SlurmScheduler, tmp_path, gpus_per_node=8)


def test_ours_exports_the_variables_of_workers_without_a_container(tmp_path):
    script = slurm_script(PatchedSlurmScheduler, tmp_path, gpus_per_node=8)
    assert "export GREETING=" in script and "hello world" in script


def scheduler_of(trainer_class: type[PPOTrainer], folder: Path) -> SlurmScheduler:
    """Return the scheduler of a run on Slurm whose config asks for no container."""
    options = [
        *("--config", f"{ROOT}/examples/tau2/config_cpu.yaml"),
        *("experiment_name=test", "trial_name=trial", f"cluster.fileroot={folder}"),
        *("scheduler.type=slurm", f"cluster.name_resolve.nfs_record_root={folder}"),
        "++actor.scheduling_spec.0.container_type=none",
        "++actor.scheduling_spec.0.mount=/data:/data",
    ]
    trainer = trainer_class.__new__(trainer_class)
    trainer.config, _ = load_expr_config(options, Tau2PPOConfig)
    return trainer._init_scheduler()


def test_areals_trainer_ignores_the_container_and_mounts_of_the_config(tmp_path):
    scheduler = scheduler_of(PPOTrainer, tmp_path)
    assert scheduler.container_type == "apptainer"
    assert scheduler.container_mounts == "/storage:/storage"


def test_ours_heeds_the_container_and_mounts_of_the_config(tmp_path):
    scheduler = scheduler_of(Tau2PPOTrainer, tmp_path)
    scheduler.guard.stdin.close()
    scheduler.guard.wait()
    assert scheduler.container_type == "none"
    assert scheduler.container_mounts == "/data:/data"


# -- forked workers, and workers that have ended -------------------------------------------------

FORKING = [LocalScheduler, SlurmScheduler, *([RayScheduler] if runs_agents_under_ray() else [])]


@pytest.mark.parametrize("scheduler_class", FORKING)
def test_areals_schedulers_wait_60_seconds_for_a_forked_worker(scheduler_class):
    waiting = inspect.signature(scheduler_class._wait_for_fork_ready)
    assert waiting.parameters["timeout"].default == 60 < START_TIMEOUT


@pytest.mark.parametrize("scheduler_class", FORKING)
def test_ours_wait_as_long_as_they_are_told(scheduler_class):
    scheduler = scheduler_class.__new__(scheduler_class)
    wait_for_forked_workers(scheduler, 0.01)

    async def wait_for(port: int) -> bool:
        async with aiohttp.ClientSession() as session:
            return await scheduler._wait_for_fork_ready(session, "127.0.0.1", port)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert asyncio.run(wait_for(port)) is False


def test_a_worker_that_has_ended_is_found_without_a_call_to_it():
    def worker(exit_code: int | None) -> SimpleNamespace:
        process = SimpleNamespace(poll=lambda: exit_code)
        name = SimpleNamespace(id="actor/0")
        return SimpleNamespace(process=process, log_file="/dev/null", worker=name)

    scheduler = LocalScheduler.__new__(LocalScheduler)
    scheduler._workers = {"rollout": [worker(None)], "actor": [worker(-9)]}
    failed = failed_worker(scheduler)
    assert failed is not None
    assert (failed.worker_id, failed.exit_code) == ("actor/0", -9)
    scheduler._workers = {"rollout": [worker(None)]}
    assert failed_worker(scheduler) is None
    assert failed_worker(None) is None
