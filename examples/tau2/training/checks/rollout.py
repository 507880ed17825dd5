"""Checks that AReaL's v1 controllers run the workflow inline, and make a sample of each turn."""

from collections.abc import Iterator

from examples.tau2.utils import Tau2PPOConfig


def check_rollout(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield the settings with which AReaL does not run the workflow as it has to."""
    agent = config.rollout.agent
    if agent.mode != "inline":
        yield (
            f"rollout.agent.mode={agent.mode}: this workflow runs inline, "
            "all episodes in one event loop"
        )
    if agent.export_style != "individual":
        yield (
            f"rollout.agent.export_style={agent.export_style}: use individual; Qwen3's template "
            "drops old reasoning, so that a conversation is not one sequence of tokens"
        )
    for role, options in (("actor", config.actor), ("rollout", config.rollout)):
        # an option of AReaL's, in spite of its name
        version = getattr(options, "_version", "v1")
        if version != "v1":
            yield f"{role}._version={version}: the advantages need AReaL's v1 controllers; use v1"
