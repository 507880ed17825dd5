"""A trainer says why its run cannot go on: AReaL's own counts, without a run's processes."""

import inspect
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from areal import PPOTrainer
from areal.api.io_struct import LocalInfServerInfo
from areal.infra import LocalScheduler, RolloutController
from areal.infra.staleness_manager import StalenessManager

from examples.tau2.training import trainer as trainers
from examples.tau2.training.health import MAX_REJECTED_BATCHES, GroupWatch, ServerWatch
from examples.tau2.training.trainer import Tau2PPOTrainer, is_stuck

BATCH_SIZE = 3


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Stand for SGLang and the proxy."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        yield [server, proxy]


@pytest.fixture
def trainer(listeners, tmp_path) -> Tau2PPOTrainer:
    """A trainer with AReaL's own controller and counts, but without engines and workers."""
    ports = [listener.getsockname()[1] for listener in listeners]
    controller = RolloutController.__new__(RolloutController)
    controller.server_infos = [LocalInfServerInfo("127.0.0.1", ports[0], None)]
    controller.proxy_addrs = [f"http://127.0.0.1:{ports[1]}"]
    controller._staleness_manager = StalenessManager(
        SimpleNamespace(get_version=lambda: 0),
        max_concurrent_rollouts=8,
        consumer_batch_size=8,
        max_staleness=0,
    )
    trainer = Tau2PPOTrainer.__new__(Tau2PPOTrainer)
    trainer.rollout = controller
    trainer.eval_rollout = None
    trainer.scheduler = local_scheduler()
    trainer.server_watch = ServerWatch()
    trainer.group_watch = GroupWatch(BATCH_SIZE, tmp_path / "rollout.log")
    return trainer


def local_scheduler(**workers) -> LocalScheduler:
    scheduler = LocalScheduler.__new__(LocalScheduler)
    scheduler._workers = workers
    return scheduler


def lost_worker() -> SimpleNamespace:
    return SimpleNamespace(
        process=SimpleNamespace(poll=lambda: -9),
        log_file="/dev/null",
        worker=SimpleNamespace(id="rollout/0"),
    )


def test_a_run_that_goes_on_is_not_stuck(trainer):
    assert trainer.why_stuck() is None


def test_rejected_groups_are_counted_by_areal(trainer):
    manager = trainer.rollout.staleness_manager
    for _ in range(MAX_REJECTED_BATCHES * BATCH_SIZE):
        assert trainer.why_stuck() is None
        manager.on_rollout_enqueued()
        manager.on_rollout_submitted()
        manager.on_rollout_rejected()
    assert "groups were all rejected" in trainer.why_stuck()


@pytest.mark.parametrize("number, what", [(0, "SGLang"), (1, "the proxy")])
def test_a_server_that_has_ended_is_named(trainer, listeners, number, what):
    port = listeners[number].getsockname()[1]
    assert trainer.why_stuck() is None
    listeners[number].close()
    reason = f"{what} at 127.0.0.1:{port} has ended: nothing listens there any more"
    assert trainer.why_stuck() == reason


def test_a_lost_worker_explains_its_server(trainer, listeners):
    assert trainer.why_stuck() is None
    for listener in listeners:
        listener.close()
    trainer.scheduler = local_scheduler(rollout=[lost_worker()])
    assert trainer.why_stuck() == "worker rollout/0 has ended with exit code -9"


def test_a_run_whose_state_cannot_be_found_out_is_not_stuck():
    def why_stuck() -> str | None:
        raise OSError("too many open files")

    assert not is_stuck(why_stuck)
    assert not is_stuck(lambda: None)
    assert is_stuck(lambda: "a worker has ended")


# -- a trainer that cannot be made ---------------------------------------------------------------


def test_areals_trainer_that_cannot_be_made_may_hide_the_cause(airline):
    closes_itself = "close" in inspect.getsource(PPOTrainer.__init__)
    expected = AttributeError if closes_itself else NotImplementedError
    with pytest.raises(expected):
        PPOTrainer(airline("scheduler.type=none"))


def test_ours_raises_the_cause(airline, monkeypatch):
    monkeypatch.setattr(trainers, "replace_classes_of_trainers", lambda recover_handler: None)
    with pytest.raises(NotImplementedError, match="Unknown scheduler type: none"):
        Tau2PPOTrainer(airline("scheduler.type=none"), None)


def test_a_trainer_that_was_not_made_closes_although_a_worker_is_lost(trainer):
    trainer.scheduler = local_scheduler(rollout=[lost_worker()])
    trainer.close()
