"""AReaL's engines without some of their faults: a module of subclasses for each backend.

A worker imports its engine by path, e.g. `examples.tau2.training.engines.archon.ArchonPPOActor`.
The backends are modules of their own because not every machine has all of them installed.
The table in `examples.tau2.training.areal` has the versions of AReaL that have these faults.
"""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from areal.api import SaveLoadMeta, TrainEngine, WeightUpdateMeta
from torch.distributed.checkpoint.api import CheckpointException

from examples.tau2.training.advantages import turn_advantages, without_episodes
from examples.tau2.training.areal.ports import draw_ports_apart

Engine = TypeVar("Engine", bound=type)

# the module of this package for each of AReaL's
MODULES = {
    "areal.engine.fsdp_engine": "fsdp",
    "areal.engine.megatron_engine": "megatron",
    "areal.experimental.engine.archon_engine": "archon",
}


def subclass_of(engine: Engine) -> Engine:
    """Return this package's subclass of one of AReaL's training engines, which has the same name.

    Raises:
        KeyError: the engine is of a backend that this package does not know.
    """
    module = import_module(f"{__name__}.{MODULES[engine.__module__]}")
    return getattr(module, engine.__name__)


@contextmanager
def checkpoint_errors_reported() -> Generator[None]:
    """Raise a `RuntimeError` with the cause in place of PyTorch's `CheckpointException`.

    `CheckpointException` is not a subclass of `Exception`. It ends the thread in which AReaL's
    worker runs the engine, so that the trainer waits forever for an answer.
    """
    try:
        yield
    except CheckpointException as error:
        failures = list(error.failures.values())
        cause, _ = failures[0]
        raise RuntimeError(f"{type(cause).__name__}: {cause}") from error


class DrawsPortsApart:
    """An engine whose worker draws no port that another run on the machine has drawn."""

    def __init__(self, *args: Any, **kwargs: Any):
        # a worker draws its first port after it has made its engine
        draw_ports_apart()
        super().__init__(*args, **kwargs)


class ReportsCheckpointErrors(DrawsPortsApart, TrainEngine):
    """A training engine that raises an `Exception` when it cannot read or write a checkpoint."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        with checkpoint_errors_reported():
            super().initialize(*args, **kwargs)

    def save(self, meta: SaveLoadMeta) -> None:
        with checkpoint_errors_reported():
            super().save(meta)

    def load(self, meta: SaveLoadMeta) -> None:
        with checkpoint_errors_reported():
            super().load(meta)

    def update_weights(self, meta: WeightUpdateMeta) -> None:
        with checkpoint_errors_reported():
            super().update_weights(meta)


class ReloadsMasterWeights(ReportsCheckpointErrors):
    """A Megatron engine that trains on from the weights that it has loaded.

    Megatron's optimizer has its own copy of the weights. AReaL cannot save that optimizer, and
    leaves the copy as it was before the load: the first update would undo the load.
    """

    def load(self, meta: SaveLoadMeta) -> None:
        super().load(meta)
        optimizer = getattr(self, "optimizer", None)
        if not meta.with_optim and hasattr(optimizer, "reload_model_params"):
            optimizer.reload_model_params()


class ComparesEpisodes(TrainEngine):
    """An actor whose advantages compare the episodes of a group: see `training.advantages`."""

    def compute_advantages(
        self, data: list[dict[str, Any]], baseline: str | None = None, scale: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the groups with AReaL's advantages and the tensors that go with them.

        Without a baseline, AReaL's `reward_norm` and `adv_norm` decide.
        """
        plain = [without_episodes(group) for group in data]
        if baseline is None:
            return super().compute_advantages(plain)
        advantages = turn_advantages(data, baseline, scale)
        compared = [
            {**group, "rewards": rewards} for group, rewards in zip(plain, advantages, strict=True)
        ]
        computed = super().compute_advantages(compared)
        # the rewards are in the statistics
        return [
            {**group, "rewards": original["rewards"]}
            for group, original in zip(computed, data, strict=True)
        ]
