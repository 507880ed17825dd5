"""The reward of an episode by tau2's evaluation, and what each completion gets of it: pure functions."""

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy

from tau2.data_model.message import Message, ToolCall
from tau2.data_model.simulation import RewardInfo, SimulationRun
from tau2.data_model.tasks import Task
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation

from examples.tau2.episode import environment
from examples.tau2.episode.simulation import AgentTurn


def evaluate_episode(
    simulation: SimulationRun,
    task: Task,
    domain: str,
    solo_mode: bool,
    thinking_tool: bool,
    db_path: str | None = None,
) -> RewardInfo:
    """tau2's own evaluation of every criterion that needs no LLM judge; `RewardInfo.reward` is in [0, 1].

    Raises:
        ValueError: the task's reward basis needs an LLM judge (NL_ASSERTION), or the conversation cannot be replayed.
    """
    return evaluate_simulation(
        simulation=simulation.model_copy(update={"messages": _Messages(simulation.messages)}),
        task=task,
        evaluation_type=EvaluationType.ALL,
        solo_mode=solo_mode,
        domain=environment.register_environment(domain, thinking_tool, db_path),
    )


class _Messages(list[Message]):
    """tau2's evaluator copies the conversation before it replays the tool calls: only their arguments can be written to."""

    def __deepcopy__(self, memo: dict) -> list[Message]:
        return [
            message.model_copy(
                update={"tool_calls": [_private(call) for call in message.tool_calls]}
            )
            if getattr(message, "tool_calls", None)
            else message
            for message in self
        ]


def _private(call: ToolCall) -> ToolCall:
    return call.model_copy(update={"arguments": deepcopy(call.arguments)})


def matched_actions(task: Task, messages: Iterable[Message]) -> dict[str, float]:
    """The share of the task's expected actions that is first done in a turn, by completion id; turns without any are left out.

    A tool call does an action if tau2's own check says so. What the user does counts for the agent's turn before it.
    """
    expected = (task.evaluation_criteria and task.evaluation_criteria.actions) or []
    missing, turn = list(expected), None
    shares: dict[str, float] = defaultdict(float)
    for message in messages:
        turn = (getattr(message, "raw_data", None) or {}).get("completion_id", turn)
        for call in getattr(message, "tool_calls", None) or []:
            still_missing = [
                action for action in missing if not action.compare_with_tool_call(call)
            ]
            if turn is not None and len(still_missing) < len(missing):
                shares[turn] += (len(missing) - len(still_missing)) / len(expected)
            missing = still_missing
    return dict(shares)


def shaped_reward(reward: float, matched: float, action_reward: float) -> float:
    """The reward of an episode in which the share `matched` of the expected actions was done: 1 stays 1, and what is missing
    to it is made up for by `action_reward` times that share, so that with less than 1 nothing unsolved earns as much."""
    return reward + (1.0 - reward) * action_reward * matched


def completion_rewards(
    turns: Iterable[AgentTurn],
    reward: float,
    invalid_format_penalty: float,
    matched: dict[str, float] | None = None,
    action_reward: float = 0.0,
) -> dict[str, float]:
    """Rewards by completion id, which come to `shaped_reward`, less the penalty for each malformed turn.

    A turn gets `action_reward` times its share of `matched_actions`, and the last one what is left of the episode's reward.
    These are per-turn rewards, from which AReaL's proxy makes returns: return[i] = reward[i] + turn_discount * return[i+1].
    Turns that get nothing are left out.
    """
    turns = list(turns)
    earned = {id: action_reward * share for id, share in (matched or {}).items() if action_reward}
    rewards: dict[str, float] = defaultdict(float, earned)
    for turn in turns:
        if turn.malformed:
            rewards[turn.completion_id] -= float(invalid_format_penalty)
    rewards[turns[-1].completion_id] += float(reward) * (1.0 - sum(earned.values()))
    return dict(rewards)
