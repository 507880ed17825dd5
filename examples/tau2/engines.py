"""AReaL's training engines, whose failures to save or load are heard, and which resume under Megatron.

PyTorch's `CheckpointException` is no `Exception`: the thread of an AReaL 1.0.4 worker that runs the engine dies of it in
silence, and the trainer waits for ever. Megatron's optimizer, which AReaL cannot save, keeps weights of its own, which are
those from before a checkpoint is loaded.

`engines.<name>` is the engine of that name: workers import `examples.tau2.engines.ArchonPPOActor`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException


@contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        raise RuntimeError(f"{type(cause).__name__}: {cause}") from error


class _Heard:
    def initialize(self, *args: Any, **kwargs: Any) -> None:
        with _heard():
            super().initialize(*args, **kwargs)

    def save(self, meta: Any) -> None:
        with _heard():
            super().save(meta)

    def load(self, meta: Any) -> None:
        with _heard():
            super().load(meta)
        if not meta.with_optim and hasattr(optimizer := getattr(self, "optimizer", None), "reload_model_params"):
            optimizer.reload_model_params()

    def update_weights(self, meta: Any) -> None:
        with _heard():
            super().update_weights(meta)


@cache
def __getattr__(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    module = "areal.experimental.engine.archon_engine" if name.startswith("Archon") else "areal.engine"
    return type(name, (_Heard, getattr(import_module(module), name)), {"__module__": __name__})
