"""Checks the options of the user simulator, without calling its LLM."""

from collections.abc import Iterator

from examples.tau2.episode.llm import argument_problem
from examples.tau2.utils import Tau2PPOConfig


def check_user_simulator(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield options with which the user LLM cannot be called."""
    econfig = config.econfig
    if econfig.solo_mode:
        return
    if not econfig.names_user_llm:
        yield (
            "econfig.user_llm is not set: the user simulator needs a model, "
            "e.g. openai/self-hosted-Qwen2.5-72B with econfig.user_llm_base_url, or a hosted one; "
            "only econfig.solo_mode=true needs none"
        )
    problem = argument_problem(econfig.user_llm_args or {})
    if problem:
        yield f"econfig.user_llm_args: {problem}"
