"""The reward of an episode by tau2's evaluation, and what each completion gets of it: pure functions."""

from collections.abc import Iterable
from copy import deepcopy

from tau2.data_model.message import Message, ToolCall
from tau2.data_model.simulation import RewardInfo, SimulationRun
from tau2.data_model.tasks import Task
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation

from examples.tau2 import environment
from examples.tau2.simulation import AgentTurn


def evaluate(
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
            message.model_copy(update={"tool_calls": [_private(call) for call in message.tool_calls]})
            if getattr(message, "tool_calls", None)
            else message
            for message in self
        ]


def _private(call: ToolCall) -> ToolCall:
    return call.model_copy(update={"arguments": deepcopy(call.arguments)})


def completion_rewards(turns: Iterable[AgentTurn], reward: float, invalid_format_penalty: float) -> dict[str, float]:
    """Rewards by completion id: the episode's goes to its last turn, the penalty is subtracted from each malformed one.

    These are per-turn rewards, from which AReaL's proxy makes returns: return[i] = reward[i] + turn_discount * return[i+1].
    Turns that get nothing are left out.
    """
    turns = list(turns)
    rewards = {turn.completion_id: -float(invalid_format_penalty) for turn in turns if turn.malformed}
    last = turns[-1].completion_id
    rewards[last] = rewards.get(last, 0.0) + float(reward)
    return rewards
