"""The way of a group's result from the worker that played it to the trainer: AReaL's own classes.

The worker is AReaL's HTTP server on loopback, with an engine that a scripted SGLang serves.
"""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from areal.api import RolloutWorkflow
from areal.api.cli_args import InferenceEngineConfig
from areal.engine.sglang_remote import RemoteSGLangEngine
from areal.infra import LocalScheduler, RolloutController
from areal.infra.rpc.guard import engine_blueprint
from areal.infra.rpc.guard.app import GuardState, create_app
from areal.utils import stats_tracker
from werkzeug.serving import make_server

from examples.tau2.train import GROUP_FILTER, NO_FILTER
from examples.tau2.training.advantages import episode_tensors
from examples.tau2.training.areal.rollouts import take_group_results
from examples.tau2.training.data_loader import ResumableDataLoader
from examples.tau2.training.engines.rollout import ReportsGroups
from examples.tau2.training.groups import GroupResult, take_results
from examples.tau2.training.trainer import Tau2PPOTrainer
from tests.scripted import LLMServer

CONFIG = InferenceEngineConfig(backend="sglang:d1", setup_timeout=10, max_head_offpolicyness=9)


class OurEngine(ReportsGroups, RemoteSGLangEngine):
    """AReaL's engine with the mixin alone: the others change modules of this process."""


class Outcomes(RolloutWorkflow):
    """Plays a group whose episodes have one turn each, and the outcomes of the row."""

    async def arun_episode(self, engine, data):
        outcomes = data["outcomes"]
        episodes = [episode_tensors(*item, 1, 1.0) for item in enumerate(outcomes)]
        return {"rewards": torch.tensor(outcomes)} | {
            key: torch.cat([episode[key] for episode in episodes]) for key in episodes[0]
        }


@pytest.fixture
def engine() -> Iterator[OurEngine]:
    take_results()
    stats_tracker.export_all()
    engine = OurEngine(CONFIG)
    with LLMServer(lambda request: {}) as server:
        engine.initialize(addr=server.base_url.removeprefix("http://").removesuffix("/v1"))
        yield engine
        engine.destroy()


@pytest.fixture
def controller(engine, monkeypatch) -> Iterator[RolloutController]:
    """A controller of one worker, which has the engine."""
    monkeypatch.setattr(engine_blueprint, "_engines", {"rollout/0": engine})
    monkeypatch.setattr(engine_blueprint, "_engine_thread", None)
    monkeypatch.setattr(engine_blueprint, "_engine_work_queue", None)
    app = create_app(GuardState())
    app.register_blueprint(engine_blueprint.engine_bp)
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    worker = SimpleNamespace(id="rollout/0", ip="127.0.0.1", worker_ports=[server.port])
    scheduler = LocalScheduler.__new__(LocalScheduler)
    scheduler._workers = {"rollout": [SimpleNamespace(worker=worker, process=None)]}
    controller = RolloutController(OurEngine, CONFIG, scheduler)
    controller._worker_role = "rollout"
    controller.workers = [worker]
    yield controller
    server.shutdown()
    thread.join()
    engine_blueprint.cleanup_engine_thread()


def play(engine: OurEngine, number: int, outcomes: list[float], **options) -> bool:
    """Play a group as a worker does; return whether its tensors go to the trainer."""
    engine.submit({"outcomes": outcomes}, Outcomes(), task_id=number, **options)
    return engine.wait_for_task(number, timeout=60) is not None


def test_the_trainer_is_told_of_accepted_and_of_dropped_groups(engine, controller):
    assert play(engine, 5, [1.0, 0.0], should_accept_fn=GROUP_FILTER)
    assert not play(engine, 6, [1.0, 1.0, 1.0], should_accept_fn=GROUP_FILTER)
    assert take_group_results(controller) == [
        GroupResult(5, [1.0, 0.0], accepted=True),
        GroupResult(6, [1.0, 1.0, 1.0], accepted=False),
    ]
    assert take_group_results(controller) == []


def test_without_a_filter_it_is_told_as_well_and_never_of_an_evaluation(engine, controller):
    assert play(engine, 7, [0.0, 0.0], should_accept_fn=NO_FILTER)
    # AReaL's evaluation has no filter
    assert play(engine, 8, [0.0, 1.0], is_eval=True)
    assert take_group_results(controller) == [GroupResult(7, [0.0, 0.0], accepted=True)]


def test_a_step_counts_the_episodes_and_tells_the_data_loader(engine, controller):
    trainer = Tau2PPOTrainer.__new__(Tau2PPOTrainer)
    trainer.rollout, trainer.eval_rollout = controller, None
    trainer.task_loader = loader = ResumableDataLoader(
        ["a", "b", "c", "d", "e", "f"], 2, False, False, seed=1, revisit_share=0.5
    )
    batches = iter(loader)
    assert [next(batches), next(batches)] == [["a", "b"], ["c", "d"]]
    play(engine, 1, [1.0, 0.0], should_accept_fn=GROUP_FILTER)
    play(engine, 2, [1.0, 1.0, 1.0], should_accept_fn=GROUP_FILTER)
    trainer.end_step()
    assert next(batches) == ["e", "b"]
    # AReaL adds these to the statistics of a step
    statistics = stats_tracker.export_all()
    assert statistics["rollout/group/episodes"] == 5
    assert statistics["rollout/group/dropped_episodes"] == 3
