"""Servers that have ended, and groups that are all rejected, by AReaL's counts."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from areal.infra.staleness_manager import StalenessManager

from examples.tau2.training.health import MAX_REJECTED_BATCHES, GroupWatch, ServerWatch

BATCH_SIZE = 3


@pytest.fixture
def manager() -> StalenessManager:
    """AReaL's own counter of a run's groups."""
    version = SimpleNamespace(get_version=lambda: 0)
    return StalenessManager(
        version, max_concurrent_rollouts=8, consumer_batch_size=8, max_staleness=0
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_run_whose_groups_are_all_rejected_is_stuck(manager):
    watch = GroupWatch(BATCH_SIZE)
    limit = MAX_REJECTED_BATCHES * BATCH_SIZE

    def play(verdict) -> str | None:
        manager.on_rollout_enqueued()
        manager.on_rollout_submitted()
        verdict()
        counts = manager.get_stats()
        return watch.all_rejected(counts.accepted, counts.rejected)

    reasons = [play(manager.on_rollout_rejected) for _ in range(limit - 1)]
    reasons.append(play(manager.on_rollout_accepted))
    reasons += [play(manager.on_rollout_rejected) for _ in range(limit)]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert reasons[-1].startswith(f"the last {limit} groups were all rejected: ")


def test_a_server_that_has_ended_is_named(listener):
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    watch = ServerWatch()
    assert watch.ended_server({address: "SGLang"}) is None
    listener.close()
    ended = watch.ended_server({address: "SGLang"})
    assert ended == f"SGLang at {address} has ended: nothing listens there any more"


def test_a_server_that_was_never_reached_has_not_ended():
    assert ServerWatch().ended_server({"127.0.0.1:1": "SGLang"}) is None


def test_a_server_that_does_not_answer_has_not_ended():
    watch = ServerWatch(reached={"no-such-host.invalid:1"})
    assert watch.ended_server({"no-such-host.invalid:1": "SGLang"}) is None
