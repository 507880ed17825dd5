"""AReaL's Archon engines as this project uses them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from areal.api import TrainEngine
from areal.api.cli_args import TrainEngineConfig
from areal.experimental.engine.archon_engine import ArchonLMEngine as ArealArchonLMEngine
from areal.experimental.engine.archon_engine import ArchonPPOActor as ArealArchonPPOActor
from areal.experimental.engine.archon_engine import ArchonPPOCritic as ArealArchonPPOCritic
from areal.experimental.models.archon import BaseStateDictAdapter, ModelSpec

from examples.tau2.training.engines import ComparesEpisodes, ReportsCheckpointErrors


class KeepsMasterWeights(TrainEngine):
    """An Archon engine whose weights keep the small steps of its optimizer.

    As with FSDP, the weights, their gradients and Adam's moments are in `optimizer_dtype`, and
    `dtype` is that of the computation. Checkpoints in Hugging Face's format and the weights that
    are served are in `dtype`; recovery checkpoints are in `optimizer_dtype`. An engine without an
    optimizer has its weights in `dtype`.
    """

    spec: ModelSpec

    def __init__(self, config: TrainEngineConfig):
        super().__init__(config)
        if config.optimizer is None:
            return
        stored, computed = getattr(torch, config.optimizer_dtype), getattr(torch, config.dtype)
        self.spec = replace(
            self.spec,
            parallelize_fn=storing(stored, self.spec.parallelize_fn),
            state_dict_adapter_class=rounding(computed, self.spec.state_dict_adapter_class),
        )


def storing(
    dtype: torch.dtype, parallelize: Callable[..., torch.nn.Module]
) -> Callable[..., torch.nn.Module]:
    """Return a function that parallelizes a model whose weights are stored in `dtype`.

    Archon applies FSDP to a single rank as well. FSDP casts the weights of a layer to the dtype of
    the computation when the layer needs them, and adds up gradients in the dtype of the weights.
    """

    def store_and_parallelize(model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        return parallelize(model.to(dtype), *args, **kwargs)

    return store_and_parallelize


def rounding(
    dtype: torch.dtype, adapter_class: type[BaseStateDictAdapter]
) -> type[BaseStateDictAdapter]:
    """Return a subclass whose weights in Hugging Face's format are in `dtype`."""

    class RoundingAdapter(adapter_class):
        def to_hf(self, archon_state_dict: dict[str, Any]) -> dict[str, Any]:
            # pyrefly: ignore[abstract-method-call]  # the model's class is not abstract
            weights = super().to_hf(archon_state_dict)
            return {name: weight.to(dtype) for name, weight in weights.items()}

        def convert_single_to_hf(
            self, name: str, tensor: torch.Tensor
        ) -> list[tuple[str, torch.Tensor]]:
            # pyrefly: ignore[abstract-method-call]
            return super().convert_single_to_hf(name, tensor.to(dtype))

    return RoundingAdapter


class ArchonPPOActor(
    ComparesEpisodes, KeepsMasterWeights, ReportsCheckpointErrors, ArealArchonPPOActor
):
    """AReaL's engine of the model that is trained by PPO or GRPO, and of the reference model."""


class ArchonPPOCritic(KeepsMasterWeights, ReportsCheckpointErrors, ArealArchonPPOCritic):
    """AReaL's engine of the model that estimates values."""


class ArchonLMEngine(KeepsMasterWeights, ReportsCheckpointErrors, ArealArchonLMEngine):
    """AReaL's engine of a model that is fine-tuned."""
