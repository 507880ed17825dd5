"""AReaL's Megatron engines as this project uses them."""

from areal.engine.megatron_engine import MegatronLMEngine as ArealMegatronLMEngine
from areal.engine.megatron_engine import MegatronPPOActor as ArealMegatronPPOActor
from areal.engine.megatron_engine import MegatronPPOCritic as ArealMegatronPPOCritic

from examples.tau2.training.engines import ComparesEpisodes, ReloadsMasterWeights


class MegatronPPOActor(ComparesEpisodes, ReloadsMasterWeights, ArealMegatronPPOActor):
    """AReaL's engine of the model that is trained by PPO or GRPO, and of the reference model."""


class MegatronPPOCritic(ReloadsMasterWeights, ArealMegatronPPOCritic):
    """AReaL's engine of the model that estimates values."""


class MegatronLMEngine(ReloadsMasterWeights, ArealMegatronLMEngine):
    """AReaL's engine of a model that is fine-tuned."""
