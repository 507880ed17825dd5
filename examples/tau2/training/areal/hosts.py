"""Lets a run on one machine start where no network is, e.g. in a container without one."""

from dataclasses import replace

from areal.api.cli_args import SchedulingSpec
from areal.infra import LocalScheduler
from areal.utils import network

RPC_SERVER = "areal.infra.rpc.rpc_server"
WORKER = "examples.tau2.training.areal.worker"
LOOPBACK = "127.0.0.1"


def use_loopback_without_network() -> None:
    """Have AReaL take 127.0.0.1 for this machine's address in this process if it has no other.

    AReaL asks which address reaches 8.8.8.8, and raises an error if none does. Here it asks which
    address reaches this machine.
    """
    try:
        network.gethostip()
    except RuntimeError:
        network.gethostip.__defaults__ = (LOOPBACK, 80)


def is_on_loopback() -> bool:
    """Tell whether AReaL takes 127.0.0.1 for this machine's address."""
    return network.gethostip() == LOOPBACK


def start_workers_on_loopback(scheduler: LocalScheduler) -> None:
    """Have the scheduler start workers that call `use_loopback_without_network` first."""
    specs_of, fork = scheduler._prepare_worker_specs, scheduler.fork_workers

    def worker_specs(
        role: str, num_workers: int, schedulings: list[SchedulingSpec] | None
    ) -> list[SchedulingSpec]:
        specs = specs_of(role, num_workers, schedulings)
        return [replace(spec, cmd=(spec.cmd or "").replace(RPC_SERVER, WORKER)) for spec in specs]

    def fork_workers(role: str, target_role: str, command: str | None = None) -> list[str]:
        # the worker finds AReaL's command by its role
        return fork(role, target_role, WORKER)

    scheduler._prepare_worker_specs = worker_specs
    scheduler.fork_workers = fork_workers
