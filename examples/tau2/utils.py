"""The configs of a run: AReaL's `PPOConfig` and `SFTConfig`, and what this project adds."""

from dataclasses import dataclass, field

from areal.api.cli_args import PPOConfig, SFTConfig

from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import silence_costs
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.training.advantages import BASELINES, SCALES

__all__ = ["Tau2EnvConfig", "Tau2PPOConfig", "Tau2RunInfo", "Tau2SFTConfig", "silence_costs"]


@dataclass
class RunConfig:
    """The options of every run: its output in the terminal, and its deadline."""

    quiet: bool = field(
        default=False,
        metadata={
            "help": "Send the output of AReaL and its workers to console.log; the terminal gets "
            "a line per step."
        },
    )
    run_timeout: float | None = field(
        default=None,
        metadata={
            "help": "Deadline of the whole run in seconds. "
            "At the deadline, all processes of the run are ended."
        },
    )


@dataclass
class Tau2SFTConfig(RunConfig, SFTConfig):
    """AReaL's `SFTConfig`; data sets are files of turns."""


@dataclass
class Tau2PPOConfig(RunConfig, PPOConfig):
    """AReaL's `PPOConfig` with the tau2 environment."""

    econfig: Tau2EnvConfig = field(default_factory=Tau2EnvConfig)
    reward_fn_path: str | None = field(
        default=None,
        metadata={
            "help": "Import path of an async function that plays the episode of a row and returns "
            "its reward, instead of Tau2AgentWorkflow: "
            "aenv.examples.tau2_rl.agent.run_agent_return_reward plays it in AEnvironment."
        },
    )
    baseline: str | None = field(
        default="mean",
        metadata={
            "help": "What an episode is compared with: the mean of its group (mean), or of the "
            "group's other episodes (leave_one_out). "
            "null: AReaL's actor.reward_norm and actor.adv_norm decide.",
            "choices": [*BASELINES, None],
        },
    )
    advantage_scale: str | None = field(
        default=None,
        metadata={
            "help": "What advantages are divided by: the standard deviation of the group's "
            "outcomes (group), or of the batch's (batch). null: nothing.",
            "choices": [*SCALES],
        },
    )
    min_group_size: int | None = field(
        default=None,
        metadata={
            "help": "Train on a group of which this many episodes are there and others were "
            "rejected; with fewer, another group is played in its place. "
            "null: half of gconfig.n_samples, but at least 2."
        },
    )
    group_filter: bool = field(
        default=True,
        metadata={
            "help": "Drop groups that teach nothing, because all their advantages are 0: the "
            "episodes had equal outcomes, and no turn was malformed or did an expected action."
        },
    )
    revisit_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of each batch, below 1, for tasks whose last group had mixed outcomes; "
            "the more these differed, the likelier. All tasks in turn fill the rest."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        # AReaL's proxy applies the discount; 1.0 is its default, so econfig.turn_discount decides
        if self.rollout.agent.turn_discount == 1.0:
            self.rollout.agent.turn_discount = self.econfig.turn_discount
