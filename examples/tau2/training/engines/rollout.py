"""AReaL's rollout engines as this project uses them."""

from areal.engine.sglang_remote import RemoteSGLangEngine as ArealRemoteSGLangEngine
from areal.engine.vllm_remote import RemotevLLMEngine as ArealRemotevLLMEngine

from examples.tau2.training.engines import PlaysEveryGroup


class RemoteSGLangEngine(PlaysEveryGroup, ArealRemoteSGLangEngine):
    """AReaL's engine of a worker that rolls out with SGLang."""


class RemotevLLMEngine(PlaysEveryGroup, ArealRemotevLLMEngine):
    """AReaL's engine of a worker that rolls out with vLLM."""
