"""Servers that have ended, and groups that are all rejected, by AReaL's counts."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from areal.experimental.openai.proxy import workflow
from areal.infra.staleness_manager import StalenessManager

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.training.health import (
    MAX_REFUSED_BATCHES,
    MAX_REJECTED_BATCHES,
    GroupWatch,
    ServerWatch,
    rejections,
)
from tests.areal_proxy import Proxy
from tests.episodes import DONE
from tests.scripted import in_turn

BATCH_SIZE = 3
# a line of AReaL's
LOGGED = (
    "WARNING: Agent task failed (EpisodeRejected: mock task 'a': {}). "
    "This trajectory will be rejected.\n"
)


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


class Rollout:
    """Groups that AReaL's counter counts, the rollout worker's log, and a watch of both."""

    def __init__(self, manager: StalenessManager, log: Path):
        log.write_text(LOGGED.format("an episode of an earlier process") * 100)
        self.manager, self.log = manager, log
        self.watch = GroupWatch(BATCH_SIZE, log)

    def play(self, groups: int, cause: str | None = None, accept: bool = False) -> list[str | None]:
        """Count groups, each with an episode that is rejected for the cause; return the answers."""
        answers = []
        for number in range(groups):
            self.manager.on_rollout_enqueued()
            self.manager.on_rollout_submitted()
            if cause:
                with self.log.open("a") as file:
                    file.write(LOGGED.format(cause.replace("NUMBER", str(number))))
            counted = self.manager.on_rollout_accepted if accept else None
            (counted or self.manager.on_rollout_rejected)()
            counts = self.manager.get_stats()
            answers.append(self.watch.all_rejected(counts.accepted, counts.rejected))
        return answers


@pytest.fixture
def rollout(manager, tmp_path) -> Rollout:
    return Rollout(manager, tmp_path / "rollout.log")


def test_a_run_whose_groups_are_all_rejected_is_stuck(rollout):
    limit = MAX_REJECTED_BATCHES * BATCH_SIZE
    answers = rollout.play(limit - 1) + rollout.play(1, accept=True) + rollout.play(limit)
    assert answers[:-1] == [None] * (len(answers) - 1)
    assert answers[-1].startswith(f"the last {limit} groups were all rejected: ")


def test_a_refusal_of_every_call_ends_a_run_soon_and_is_named(rollout):
    limit = MAX_REFUSED_BATCHES * BATCH_SIZE
    refusal = "UserSimulatorError: AuthenticationError: 401: Incorrect API key provided. id: NUMBER"
    answers = rollout.play(limit, refusal)
    assert answers[:-1] == [None] * (limit - 1)
    assert answers[-1] == (
        f"the last {limit} groups were all rejected: each had episodes that failed in the same "
        f"way: {refusal.replace('NUMBER', str(limit - 1))}"
    )


@pytest.mark.parametrize(
    "causes",
    [
        ["the user simulator used up the episode's deadline of 600 s (RateLimitError: 429: wait)"],
        ["AuthenticationError: 401: no", "NotFoundError: 404: no such model"],
    ],
)
def test_other_rejections_may_pass(rollout, causes):
    limit = MAX_REJECTED_BATCHES * BATCH_SIZE
    answers = [rollout.play(1, causes[number % len(causes)])[0] for number in range(limit)]
    assert answers[:-1] == [None] * (limit - 1)
    assert f"the last cause: {causes[-1]})" in answers[-1]


def test_groups_that_were_dropped_for_another_reason_may_pass(rollout):
    """One episode of each group is rejected, which would not have lost the group."""
    rollout.watch.tolerated = 4
    limit = MAX_REFUSED_BATCHES * BATCH_SIZE
    assert rollout.play(limit, "the agent's turn was empty") == [None] * limit


def test_refusals_before_a_group_was_accepted_are_forgotten(rollout):
    limit = MAX_REFUSED_BATCHES * BATCH_SIZE
    answers = rollout.play(limit - 1, "AuthenticationError: 401: no") + rollout.play(1, accept=True)
    # these are dropped by the filter
    answers += rollout.play(limit)
    assert answers == [None] * len(answers)


def test_areal_logs_a_rejection_with_its_cause(tmp_path):
    log = tmp_path / "rollout.log"
    handler = logging.FileHandler(log)
    workflow.logger.addHandler(handler)
    agent = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    try:
        with Proxy(in_turn(DONE)) as proxy, pytest.raises(EpisodeRejected):
            # pyrefly: ignore[bad-specialization]  # the workflow does not use the engine
            asyncio.run(proxy.workflow(agent).arun_episode(None, {"task_id": "no such: task"}))
    finally:
        workflow.logger.removeHandler(handler)
    (cause,) = rejections(log, 0)
    assert "no such: task" in cause


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
