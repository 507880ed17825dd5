"""AReaL's engines. Failures of those that train, to save or load, are heard, and Megatron's resume; those that roll out play
what they are sent.

PyTorch's `CheckpointException` is no `Exception`: the thread of an AReaL 1.0.4 worker that runs the engine dies of it in
silence, and the trainer waits for ever. Megatron's optimizer, which AReaL cannot save, keeps weights of its own, which are
those from before a checkpoint is loaded.

The rollout controller counts the groups under way and sends them to its workers in turn. AReaL 1.0.4's workers count as well,
each for its share: one that has had it, and is sent a group in place of one that another worker rejected, would play it with
the next weights only, for which the trainer waits for that group (github.com/areal-project/AReaL/pull/1396).

`engines.<name>` is the engine of that name: workers import `examples.tau2.training.engines.ArchonPPOActor`.
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
        if not meta.with_optim and hasattr(
            optimizer := getattr(self, "optimizer", None), "reload_model_params"
        ):
            optimizer.reload_model_params()

    def update_weights(self, meta: Any) -> None:
        with _heard():
            super().update_weights(meta)


class _Willing:
    """An engine that rolls out, whose worker counts as if it were the only one: the controller's count is the narrower."""

    def initialize(
        self,
        engine_id: str | None = None,
        addr: str | list[str] | None = None,
        train_data_parallel_size: int = 1,
    ) -> None:
        super().initialize(engine_id, addr, train_data_parallel_size)


@cache
def __getattr__(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    mixin = _Willing if name.startswith("Remote") else _Heard
    module = (
        "areal.experimental.engine.archon_engine" if name.startswith("Archon") else "areal.engine"
    )
    return type(name, (mixin, getattr(import_module(module), name)), {"__module__": __name__})
