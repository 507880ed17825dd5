"""Checks that AReaL runs the workflow inline, and makes a sample of each turn."""

from collections.abc import Iterator

from examples.tau2.utils import Tau2PPOConfig


def check_rollout(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield the settings of `rollout.agent` with which the workflow does not work."""
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
