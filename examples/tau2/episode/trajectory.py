"""What happened in an episode: `Tau2RunInfo`, its json and txt files, and its statistics."""

import re
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter
from tau2.data_model.message import ToolMessage
from tau2.data_model.simulation import SimulationRun, TerminationReason

from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.simulation import AgentTurn

# why episodes end: tau2's reasons, and two that tau2 has no name for and that would hide among its `agent_error`s
TERMINATIONS = (
    *(reason.value for reason in TerminationReason if reason not in ("judge_stop", "user_error")),
    "context_window_exceeded",
    "timeout",
)


@dataclass
class Tau2RunInfo:
    """One finished episode.

    `task_id` is tau2's or, of a tasks file, `<path>:<row>:<id>`. `simulation` is tau2's own record, reward included.
    `rewards` are those handed to AReaL, by completion id. `failure` says why an `agent_error` ended the episode; `steps` are
    tau2's; `weight_version` counts AReaL's weight updates, and `group` its groups (None outside training); `actions_matched` is
    the share of the expected actions that was done. Times are in seconds.
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

    @property
    def termination(self) -> str:
        """One of `TERMINATIONS`."""
        return (
            self.failure
            if self.failure in TERMINATIONS
            else self.simulation.termination_reason.value
        )

    def to_json(self, indent: int | None = 1) -> bytes:
        return _adapter().dump_json(self, indent=indent)

    @staticmethod
    def from_json(data: str | bytes) -> "Tau2RunInfo":
        return _adapter().validate_json(data)

    def to_text(self) -> str:
        """The conversation for human readers."""
        malformed = {turn.completion_id: turn.malformed for turn in self.turns}
        lines = [
            f"{self.domain} | task {self.task_id} | {'eval' if self.is_eval else 'train'} | weights {self.weight_version}",
            f"reward {self.reward} | {self.termination}"
            + (f" ({self.failure})" if self.failure not in (None, self.termination) else "")
            + f" | {self.steps} steps | {self.simulation.duration:.1f} s",
            f"rewards by completion: {self.rewards}",
        ]
        for message in self.simulation.messages:
            if isinstance(message, ToolMessage):
                lines.append(
                    f"\n[{message.turn_idx}] tool, to {message.requestor}{' (error)' if message.error else ''}"
                )
                lines.append(message.content or "")
                continue
            raw = message.raw_data or {}
            fault = malformed.get(raw.get("completion_id"))
            lines.append(
                f"\n[{message.turn_idx}] {message.role}{f' (malformed: {fault})' if fault else ''}"
            )
            lines.append(raw.get("content") or message.content or "")
            lines += [f"-> {call.name}({call.arguments})" for call in message.tool_calls or []]
        info = self.simulation.reward_info
        if info is not None:
            lines.append(f"\nreward: {info.model_dump_json(exclude_none=True)}")
        return "\n".join(lines) + "\n"

    def statistics(self) -> dict[str, float]:
        """Scalars for AReaL's tracker, which averages them over episodes."""
        messages = self.simulation.messages
        tool_messages = [message for message in messages if isinstance(message, ToolMessage)]
        return {
            "episode/reward": self.reward,
            "episode/solved": float(self.reward >= 1.0),
            "episode/actions_matched": self.actions_matched,
            "episode/steps": self.steps,
            "episode/seconds": self.simulation.duration,
            "agent/turns": len(self.turns),
            "agent/seconds": sum(turn.seconds for turn in self.turns),
            "agent/prompt_tokens": sum(turn.prompt_tokens for turn in self.turns),
            "agent/completion_tokens": sum(turn.completion_tokens for turn in self.turns),
            "agent/malformed_turns": sum(turn.malformed is not None for turn in self.turns),
            "user/seconds": self.user_seconds,
            "user/lost_seconds": self.user_lost_seconds,
            "user/prompt_tokens": self.user_prompt_tokens,
            "user/completion_tokens": self.user_completion_tokens,
            "tools/calls": len(tool_messages),
            "tools/errors": sum(message.error for message in tool_messages),
            **{
                f"termination/{reason}": float(self.termination == reason)
                for reason in TERMINATIONS
            },
        }


def write_trajectory(info: Tau2RunInfo, directory: str | Path) -> Path:
    """Write an episode's .json and .txt files, both or neither; blocking; returns the json's path.

    The files are `<directory>/<train|eval>/<weight version>/<task>-<random>.json` and `.txt`. A
    reader never sees half of a file.

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
