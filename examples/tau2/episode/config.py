"""`Tau2EnvConfig`, the config of an episode, for training and evaluation; needs no AReaL."""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Tau2EnvConfig:
    """The `econfig` section of a training config."""

    domain: str = field(
        default="telecom",
        metadata={
            "help": "tau2 domain: airline, retail, telecom or mock; "
            "in a tasks file, the domain of tasks that name none."
        },
    )
    max_steps: int = field(
        default=100, metadata={"help": "Steps of tau2's orchestrator after which an episode ends."}
    )
    add_thinking_tool: bool = field(
        default=False, metadata={"help": "Offer the agent tau2's `think` tool."}
    )
    solo_mode: bool = field(
        default=False,
        metadata={
            "help": "The agent gets a ticket and the user's tools; there is no user simulator."
        },
    )
    user_llm_base_url: str | None = field(
        default=None,
        metadata={
            "help": "OpenAI-compatible URL of the user simulator; "
            "null: a provider known to litellm."
        },
    )
    user_llm: str | None = field(
        default=None,
        metadata={"help": "Model of the user simulator, e.g. openai/self-hosted-Qwen2.5-72B."},
    )
    user_llm_args: dict[str, Any] | None = field(
        default=None, metadata={"help": "Arguments of each user LLM call, e.g. {temperature: 0.0}."}
    )
    judge_llm_base_url: str | None = field(
        default=None,
        metadata={"help": "OpenAI-compatible URL of the judge; null: a provider known to litellm."},
    )
    judge_llm: str | None = field(
        default=None,
        metadata={
            "help": "Model of the judge, which tasks with assertions (NL_ASSERTION) need, "
            "e.g. openai/gpt-4.1-2025-04-14."
        },
    )
    judge_llm_args: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "Arguments of each call of the judge, besides tau2's own."},
    )
    turn_discount: float = field(
        default=1.0,
        metadata={
            "help": "Reward of a turn += turn_discount * reward of the next turn, applied by AReaL."
        },
    )
    invalid_format_penalty: float = field(
        default=0.1, metadata={"help": "Subtracted from the reward of each malformed agent turn."}
    )
    action_reward: float = field(
        default=0.0,
        metadata={
            "help": "Reward that turns earn together for doing all expected actions of a task, "
            "even if it stays unsolved; below 1."
        },
    )
    timeout: float = field(default=600.0, metadata={"help": "Deadline of an episode in seconds."})
    reject_on_timeout: bool = field(
        default=False,
        metadata={
            "help": "Reject an episode (and its GRPO group) at the deadline "
            "instead of scoring it 0."
        },
    )

    @property
    def names_user_llm(self) -> bool:
        """Whether a user LLM is named, by its model or by its URL."""
        return bool(self.user_llm or self.user_llm_base_url)

    @property
    def names_judge(self) -> bool:
        """Whether a judge is named, by its model or by its URL."""
        return bool(self.judge_llm or self.judge_llm_base_url)


# the environment variables that set the fields in an AEnvironment instance
VARIABLES = {option.name: f"TAU2_{option.name.upper()}" for option in fields(Tau2EnvConfig)}
VARIABLES["user_llm_base_url"] = "TAU2_USER_LLM_API_BASE"
VARIABLES["judge_llm_base_url"] = "TAU2_JUDGE_LLM_API_BASE"
