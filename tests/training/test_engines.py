"""Failures of AReaL's engines, caused by PyTorch's own checkpoints."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from areal.api.cli_args import InferenceEngineConfig
from areal.experimental.engine.archon_engine import ArchonPPOActor
from areal.infra.rpc.guard import engine_blueprint
from areal.utils.dynamic_import import import_from_string

from examples.tau2.training import engines
from tests.scripted import LLMServer


class Saving:
    """Saves by PyTorch."""

    def save(self, meta) -> None:
        dcp.save({"x": torch.zeros(3)}, checkpoint_id=meta.path)

    def load(self, meta) -> None:
        pass


class Megatron(engines._Heard, Saving):
    """Its optimizer has weights of its own."""

    def __init__(self):
        self.optimizer = SimpleNamespace(reload_model_params=lambda: self.reloaded.append(1))
        self.reloaded = []


def test_workers_find_the_engine_of_each_name():
    engine = import_from_string("examples.tau2.training.engines.ArchonPPOActor")
    assert issubclass(engine, ArchonPPOActor) and engine is import_from_string(
        f"{engine.__module__}.{engine.__name__}"
    )


def test_a_worker_survives_a_save_that_fails_and_says_why(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="NotADirectoryError: .*/file/inside"):
        engine_blueprint._submit_to_engine_thread(
            "save",
            Megatron().save,
            SimpleNamespace(path=f"{tmp_path}/file/inside", with_optim=False),
        )
    assert engine_blueprint._submit_to_engine_thread("int", int, "7") == 7


@pytest.mark.parametrize("with_optim", [True, False])
def test_weights_that_are_loaded_alone_reach_the_optimizer(with_optim):
    engine = Megatron()
    engine.load(SimpleNamespace(with_optim=with_optim))
    assert len(engine.reloaded) == (not with_optim)


@pytest.mark.parametrize(
    "module, groups", [("areal.engine", 1), ("examples.tau2.training.engines", 2)]
)
def test_a_worker_that_rolls_out_leaves_it_to_its_controller_how_many_groups(module, groups):
    """In a batch of two, one of two workers can be sent both: the other one's was rejected."""
    config = InferenceEngineConfig(
        backend="sglang:d2",
        consumer_batch_size=2,
        max_concurrent_rollouts=2,
        max_head_offpolicyness=0,
        setup_timeout=10,
    )
    engine = import_from_string(f"{module}.RemoteSGLangEngine")(config)
    with LLMServer(lambda _: None) as server:
        engine.initialize(addr=server.base_url.removeprefix("http://").removesuffix("/v1"))
    assert engine.workflow_executor.get_capacity() == groups
    engine.destroy()
