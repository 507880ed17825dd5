"""AReaL's FSDP engines as this project uses them."""

from areal.engine.fsdp_engine import FSDPLMEngine as ArealFSDPLMEngine
from areal.engine.fsdp_engine import FSDPPPOActor as ArealFSDPPPOActor
from areal.engine.fsdp_engine import FSDPPPOCritic as ArealFSDPPPOCritic

from examples.tau2.training.engines import ComparesEpisodes, ReportsCheckpointErrors


class FSDPPPOActor(ComparesEpisodes, ReportsCheckpointErrors, ArealFSDPPPOActor):
    """AReaL's engine of the model that is trained by PPO or GRPO, and of the reference model."""


class FSDPPPOCritic(ReportsCheckpointErrors, ArealFSDPPPOCritic):
    """AReaL's engine of the model that estimates values."""


class FSDPLMEngine(ReportsCheckpointErrors, ArealFSDPLMEngine):
    """AReaL's engine of a model that is fine-tuned."""
