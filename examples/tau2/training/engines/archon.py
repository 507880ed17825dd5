"""AReaL's Archon engines as this project uses them."""

from areal.experimental.engine.archon_engine import ArchonLMEngine as ArealArchonLMEngine
from areal.experimental.engine.archon_engine import ArchonPPOActor as ArealArchonPPOActor
from areal.experimental.engine.archon_engine import ArchonPPOCritic as ArealArchonPPOCritic

from examples.tau2.training.engines import ReportsCheckpointErrors


class ArchonPPOActor(ReportsCheckpointErrors, ArealArchonPPOActor):
    """AReaL's engine of the model that is trained by PPO or GRPO, and of the reference model."""


class ArchonPPOCritic(ReportsCheckpointErrors, ArealArchonPPOCritic):
    """AReaL's engine of the model that estimates values."""


class ArchonLMEngine(ReportsCheckpointErrors, ArealArchonLMEngine):
    """AReaL's engine of a model that is fine-tuned."""
