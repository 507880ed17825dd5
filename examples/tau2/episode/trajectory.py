"""`Tau2RunInfo`, the record of a finished episode: its files, and its statistics."""

import re
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter
from tau2.data_model.message import AssistantMessage, ToolMessage, UserMessage
from tau2.data_model.simulation import SimulationRun, TerminationReason

from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.failure_kinds import FAILURE_KINDS
from examples.tau2.episode.participants import AgentTurn
from examples.tau2.episode.tau2_data import Tau2Source

# why episodes end: tau2's reasons, and two more, which tau2 would count as `agent_error`
TERMINATIONS = (
    *(reason.value for reason in TerminationReason if reason not in ("judge_stop", "user_error")),
    "context_window_exceeded",
    "timeout",
)


@dataclass
class Tau2RunInfo:
    """One finished episode.

    - `task_id`: tau2's; for a task of a tasks file `<path>:<row>:<id>`.
    - `weight_version`: the number of AReaL's weight updates before the episode; None outside
      training.
    - `reward`: tau2's reward of the episode, in [0, 1].
    - `rewards`: what AReaL trains on, by completion id.
    - `failure`: why an `agent_error` ended the episode; None if none did.
    - `steps`: those of tau2's orchestrator.
    - `user_seconds`: seconds in which the user simulator was to speak.
    - `user_lost_seconds`: the part of them that failed calls took.
    - `simulation`: tau2's own record, with its evaluation.
    - `actions_matched`: the share of the expected actions that were done.
    - `group`: the number of AReaL's group; None outside training.
    - `tau2`: which tau2 it is of; None in older records.
    - `failure_kinds`: those of `FAILURE_KINDS` that it shows; empty if it is solved, and in older
      records.
    """

    domain: str
    task_id: str
    solo_mode: bool
    is_eval: bool
    weight_version: int | None
    reward: float
    rewards: dict[str, float]
    failure: str | None
    steps: int
    turns: list[AgentTurn]
    user_prompt_tokens: int
    user_completion_tokens: int
    user_seconds: float
    user_lost_seconds: float
    simulation: SimulationRun
    add_thinking_tool: bool = False
    actions_matched: float = 0.0
    group: int | None = None
    tau2: Tau2Source | None = None
    judge_prompt_tokens: int = 0
    judge_completion_tokens: int = 0
    judge_usd: float = 0.0
    user_usd: float = 0.0
    failure_kinds: list[str] = field(default_factory=list)

    @property
    def termination(self) -> str:
        """Why the episode ended: one of `TERMINATIONS`."""
        if self.failure in TERMINATIONS:
            return self.failure
        return self.simulation.termination_reason.value

    def to_json(self, indent: int | None = 1) -> bytes:
        """Write the episode as JSON."""
        return _adapter().dump_json(self, indent=indent)

    @staticmethod
    def from_json(data: str | bytes) -> "Tau2RunInfo":
        """Read what `to_json` has written."""
        return _adapter().validate_json(data)

    def to_text(self) -> str:
        """Write the conversation for human readers."""
        purpose = "eval" if self.is_eval else "train"
        ending = self.termination
        if self.failure not in (None, self.termination):
            ending += f" ({self.failure})"
        lines = [
            f"{self.domain} | task {self.task_id} | {purpose} | weights {self.weight_version}",
            f"reward {self.reward} | {ending} | {self.steps} steps"
            f" | {self.simulation.duration:.1f} s",
            f"rewards by completion: {self.rewards}",
        ]
        if self.failure_kinds:
            lines.append(f"kinds of failure: {', '.join(self.failure_kinds)}")
        malformed = {turn.completion_id: turn.malformed for turn in self.turns}
        for message in self.simulation.messages:
            if isinstance(message, ToolMessage):
                lines += _tool_lines(message)
            elif isinstance(message, AssistantMessage | UserMessage):
                raw = message.raw_data or {}
                lines += _spoken_lines(message, raw, malformed.get(raw.get("completion_id", "")))
        reward_info = self.simulation.reward_info
        if reward_info is not None:
            lines.append(f"\nreward: {reward_info.model_dump_json(exclude_none=True)}")
        return "\n".join(lines) + "\n"

    def statistics(self) -> dict[str, float]:
        """Make the scalars for AReaL's tracker, which averages them over episodes."""
        messages = self.simulation.messages
        tool_messages = [message for message in messages if isinstance(message, ToolMessage)]
        spoken = [message for message in messages if isinstance(message, AssistantMessage)]
        return {
            "episode/reward": self.reward,
            "episode/solved": float(self.reward >= 1.0),
            "episode/actions_matched": self.actions_matched,
            "episode/steps": self.steps,
            "episode/seconds": self.simulation.duration,
            "agent/turns": len(self.turns),
            "agent/tool_calls": sum(m.requestor == "assistant" for m in tool_messages),
            "agent/seconds": sum(turn.seconds for turn in self.turns),
            "agent/prompt_tokens": sum(turn.prompt_tokens for turn in self.turns),
            "agent/completion_tokens": sum(turn.completion_tokens for turn in self.turns),
            "agent/usd": sum(message.cost or 0.0 for message in spoken),
            "agent/malformed_turns": sum(turn.malformed is not None for turn in self.turns),
            "agent/refusals": sum("refusal" in (message.raw_data or {}) for message in spoken),
            "user/seconds": self.user_seconds,
            "user/lost_seconds": self.user_lost_seconds,
            "user/prompt_tokens": self.user_prompt_tokens,
            "user/completion_tokens": self.user_completion_tokens,
            "user/usd": self.user_usd,
            "judge/prompt_tokens": self.judge_prompt_tokens,
            "judge/completion_tokens": self.judge_completion_tokens,
            "judge/usd": self.judge_usd,
            "tools/calls": len(tool_messages),
            "tools/errors": sum(message.error for message in tool_messages),
            **{
                f"termination/{reason}": float(self.termination == reason)
                for reason in TERMINATIONS
            },
            **{f"failure/{kind}": float(kind in self.failure_kinds) for kind in FAILURE_KINDS},
        }


def _tool_lines(message: ToolMessage) -> list[str]:
    error = " (error)" if message.error else ""
    return [
        f"\n[{message.turn_idx}] tool, to {message.requestor}{error}",
        message.content or "",
    ]


def _spoken_lines(
    message: AssistantMessage | UserMessage, raw: dict, malformed: str | None
) -> list[str]:
    fault = f" (malformed: {malformed})" if malformed else ""
    if raw.get("refusal"):
        fault += " (refused)"
    lines = [
        f"\n[{message.turn_idx}] {message.role}{fault}",
        raw.get("content") or message.content or "",
    ]
    for call in message.tool_calls or []:
        lines.append(f"-> {call.name}({call.arguments})")
    return lines


def write_trajectory(info: Tau2RunInfo, directory: str | Path) -> Path:
    """Write an episode's .json and .txt files, both or neither, and return the path of the .json.

    The files are `<directory>/<train|eval>/<weight version>/<task>-<random>.json` and `.txt`. A
    reader never sees half of a file. The call blocks the event loop, if there is one.

    Raises:
        OSError: the disk is full, read-only, ...
    """
    purpose = "eval" if info.is_eval else "train"
    folder = Path(directory, purpose, str(info.weight_version or 0))
    folder.mkdir(parents=True, exist_ok=True)
    task = re.sub(r"[^A-Za-z0-9_.-]+", "_", info.task_id)[-80:]
    name = f"{task}-{uuid.uuid4().hex[:12]}"
    text_path, json_path = folder / f"{name}.txt", folder / f"{name}.json"
    try:
        with atomic_file(text_path) as file:
            file.write(info.to_text())
        with atomic_file(json_path, "wb") as file:
            file.write(info.to_json())
    except OSError:
        text_path.unlink(missing_ok=True)
        raise
    return json_path


@cache
def _adapter() -> TypeAdapter:
    return TypeAdapter(Tau2RunInfo)
