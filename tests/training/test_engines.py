"""Faults of AReaL's engines as they are, and that ours have none of them."""

import threading
from pathlib import Path
from types import SimpleNamespace

import areal.engine
import pytest
import torch
import torch.distributed.checkpoint as dcp
from areal.api import SaveLoadMeta, TrainEngine
from areal.api.cli_args import InferenceEngineConfig
from areal.engine import FSDPLMEngine, FSDPPPOActor, FSDPPPOCritic, RemoteSGLangEngine
from areal.experimental.engine import archon_engine
from areal.experimental.openai import client
from areal.infra.rpc.guard import engine_blueprint
from areal.utils.dynamic_import import import_from_string

from examples.tau2.training.engines import ReloadsMasterWeights, archon, rollout, subclass_of
from tests.scripted import LLMServer
from tests.waiting import until

ENGINES = [
    FSDPPPOActor,
    FSDPPPOCritic,
    FSDPLMEngine,
    archon_engine.ArchonPPOActor,
    archon_engine.ArchonPPOCritic,
    archon_engine.ArchonLMEngine,
]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_workers_find_our_subclass_of_each_engine(engine):
    ours = subclass_of(engine)
    assert issubclass(ours, engine) and ours is not engine
    assert import_from_string(f"{ours.__module__}.{ours.__name__}") is ours


# -- a checkpoint that cannot be written ---------------------------------------------------------


@pytest.fixture
def meta(tmp_path) -> SaveLoadMeta:
    """A place where no checkpoint can be written, because it is inside a file."""
    (tmp_path / "file").touch()
    return SaveLoadMeta(
        path=f"{tmp_path}/file/inside",
        weight_format="dcp",
        with_optim=False,
        tokenizer=None,
        processor=None,
        base_model_path=None,
    )


@pytest.fixture
def engine_thread(monkeypatch):
    """A new thread of AReaL's worker, in which the worker runs its engine."""
    monkeypatch.setattr(engine_blueprint, "_engine_thread", None)
    monkeypatch.setattr(engine_blueprint, "_engine_work_queue", None)


def engine_thread_has_ended() -> bool:
    thread = engine_blueprint._engine_thread
    return thread is not None and thread.ident is not None and not thread.is_alive()


def engine_of(engine_class: type[TrainEngine], monkeypatch) -> TrainEngine:
    """An engine without a model, whose checkpoint PyTorch writes."""

    def save_to_dcp(engine, path: str, with_optim: bool) -> None:
        dcp.save({"x": torch.zeros(3)}, checkpoint_id=path)

    monkeypatch.setattr(archon_engine, "save_to_dcp", save_to_dcp)
    engine = engine_class.__new__(engine_class)
    engine.is_offload = False
    return engine


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_areals_worker_never_answers_when_a_checkpoint_cannot_be_written(
    meta, engine_thread, monkeypatch
):
    engine = engine_of(archon_engine.ArchonPPOActor, monkeypatch)
    submit = engine_blueprint._submit_to_engine_thread
    caller = threading.Thread(target=submit, args=("save", engine.save, meta), daemon=True)
    caller.start()
    until(engine_thread_has_ended)
    caller.join(0.5)
    assert caller.is_alive()


def test_ours_says_why_a_checkpoint_cannot_be_written(meta, engine_thread, monkeypatch):
    engine = engine_of(archon.ArchonPPOActor, monkeypatch)
    with pytest.raises(RuntimeError, match="NotADirectoryError: .*/file/inside"):
        engine_blueprint._submit_to_engine_thread("save", engine.save, meta)
    assert engine_blueprint._submit_to_engine_thread("int", int, "7") == 7


# -- Megatron's own copy of the weights ----------------------------------------------------------


class MegatronEngine(TrainEngine):
    """Stands for AReaL's engine, which cannot be imported without Megatron."""

    def __init__(self):
        self.reloads = 0
        self.optimizer = SimpleNamespace(reload_model_params=self.reload)

    def reload(self) -> None:
        self.reloads += 1

    def load(self, meta) -> None:
        pass


class OurMegatronEngine(ReloadsMasterWeights, MegatronEngine):
    """The subclass, made like those of `engines.megatron`."""


# the methods that are missing here are not called
OurMegatronEngine.__abstractmethods__ = frozenset()


def test_areals_megatron_engine_does_not_reload_the_optimizers_weights():
    source = Path(areal.engine.__file__).with_name("megatron_engine.py").read_text()
    assert "def load(" in source and "reload_model_params" not in source


@pytest.mark.parametrize("with_optim, reloads", [(True, 0), (False, 1)])
def test_weights_that_are_loaded_alone_reach_the_optimizer(with_optim, reloads):
    engine = OurMegatronEngine()
    engine.load(SimpleNamespace(with_optim=with_optim))
    assert engine.reloads == reloads


# -- groups that a rollout worker may play -------------------------------------------------------


@pytest.mark.parametrize(
    "engine_class, groups", [(RemoteSGLangEngine, 1), (rollout.RemoteSGLangEngine, 2)]
)
def test_how_many_groups_of_a_batch_of_two_one_of_two_workers_plays(
    engine_class, groups, monkeypatch
):
    """One worker can be sent both groups: the other worker may have rejected its own."""
    # our engine replaces it in this process
    monkeypatch.setattr(client, "apply_chat_template", client.apply_chat_template)
    config = InferenceEngineConfig(
        backend="sglang:d2",
        consumer_batch_size=2,
        max_concurrent_rollouts=2,
        max_head_offpolicyness=0,
        setup_timeout=10,
    )
    engine = engine_class(config)
    with LLMServer(lambda _: None) as server:
        engine.initialize(addr=server.base_url.removeprefix("http://").removesuffix("/v1"))
    assert engine.workflow_executor.get_capacity() == groups
    engine.destroy()
