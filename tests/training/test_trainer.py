import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from areal.api.io_struct import LocalInfServerInfo
from areal.infra.scheduler.exceptions import WorkerFailedError
from areal.infra.staleness_manager import StalenessManager

from examples.tau2.training.trainer import PATIENCE, Tau2PPOTrainer

BATCH = 3


def trainer_of(manager: StalenessManager, server: int, proxy: int) -> Tau2PPOTrainer:
    """AReaL counts the groups; the controllers and the scheduler, which need a run, are left out."""
    trainer = Tau2PPOTrainer.__new__(Tau2PPOTrainer)
    trainer.config = SimpleNamespace(train_dataset=SimpleNamespace(batch_size=BATCH))
    info, url = LocalInfServerInfo("127.0.0.1", server, None), f"http://127.0.0.1:{proxy}"
    trainer.rollout = SimpleNamespace(
        staleness_manager=manager, server_infos=[info], proxy_addrs=[url]
    )
    trainer.eval_rollout = None
    trainer.scheduler = SimpleNamespace(_workers={})
    trainer._accepted = trainer._rejected = 0
    trainer._reached = set()
    return trainer


@pytest.fixture
def manager() -> StalenessManager:
    version = SimpleNamespace(get_version=lambda: 0)
    return StalenessManager(
        version, max_concurrent_rollouts=8, consumer_batch_size=8, max_staleness=0
    )


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """In place of SGLang and the proxy."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        yield [server, proxy]


def test_a_run_whose_groups_are_all_rejected_is_a_complaint(manager):
    trainer = trainer_of(manager, 1, 2)

    def play(verdict) -> str | None:
        manager.on_rollout_enqueued()
        manager.on_rollout_submitted()
        verdict()
        return trainer._complaint()

    complaints = [play(manager.on_rollout_rejected) for _ in range(PATIENCE * BATCH - 1)]
    complaints.append(play(manager.on_rollout_accepted))
    complaints += [play(manager.on_rollout_rejected) for _ in range(PATIENCE * BATCH)]
    assert complaints[:-1] == [None] * (len(complaints) - 1)
    assert complaints[-1].startswith(f"the last {PATIENCE * BATCH} groups were all rejected: ")


def test_a_server_that_has_ended_is_a_complaint(manager, listeners):
    ports = [listener.getsockname()[1] for listener in listeners]
    trainer = trainer_of(manager, *ports)
    assert trainer._complaint() is None
    for listener, port, what in reversed(
        [*zip(listeners, ports, ("SGLang", "the proxy"), strict=True)]
    ):
        listener.close()
        assert (
            trainer._complaint()
            == f"{what} at 127.0.0.1:{port} has ended: nothing listens there any more"
        )


def test_a_server_that_was_never_reached_is_no_complaint(manager):
    assert trainer_of(manager, 1, 2)._complaint() is None


def test_what_the_scheduler_knows_of_a_lost_worker_explains_its_server(manager, listeners):
    trainer = trainer_of(manager, *(listener.getsockname()[1] for listener in listeners))
    assert trainer._complaint() is None
    for listener in listeners:
        listener.close()

    def find_lost(_role: str) -> None:
        raise WorkerFailedError("rollout/0", -9)

    trainer.scheduler = SimpleNamespace(_workers={"rollout": []}, _check_worker_health=find_lost)
    assert trainer._complaint() == "worker rollout/0 has ended with exit code -9"
