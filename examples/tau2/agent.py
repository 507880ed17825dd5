"""One episode: the agent plays a tau2 task, tau2 evaluates it, and the rewards are returned.

`Tau2AgentWorkflow.run` plays one episode: it looks up the task (data/tasks.py), has the agent
behind an OpenAI-compatible endpoint converse with tau2's user simulator and tools
(episode/simulation.py), has tau2 evaluate the conversation (episode/reward.py), and returns the
rewards by completion id, which is what AReaL trains on. It raises `EpisodeRejected` where the
episode says nothing about the agent. The same workflow evaluates and debugs, without AReaL.
"""

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

import httpx
from tau2.data_model.simulation import SimulationRun
from tau2.data_model.tasks import Task

from examples.tau2 import quiet_tau2
from examples.tau2.data.dataset import TaskFilter, task_rows
from examples.tau2.data.tasks import find_task_row, task_label
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.failure_kinds import failure_kinds
from examples.tau2.episode.failures import describe_error
from examples.tau2.episode.judge import (
    NO_JUDGE,
    Verdicts,
    assertions_to_judge,
    make_judge,
    needs_judge,
)
from examples.tau2.episode.llm import (
    CallLLM,
    served_llm,
    shared_client,
    silence_costs,
    user_llm,
)
from examples.tau2.episode.network import certificates
from examples.tau2.episode.participants import User
from examples.tau2.episode.reward import (
    completion_rewards,
    evaluate_episode,
    matched_actions,
    outcome_share,
)
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.episode.trajectory import Tau2RunInfo, write_trajectory

logger = logging.getLogger(__name__)

# The output folders for which it was logged that trajectories are lost. The process remembers them,
# because a training framework may make a new workflow for every group.
_failed_dirs: set[Path] = set()
# One thread writes all trajectories. Each of several threads could make the event loop wait for
# Python's lock, for 5 ms at a time.
_writer = ThreadPoolExecutor(1, "trajectories")


class EpisodeRejected(RuntimeError):
    """The episode says nothing about the agent; the message names the task and the cause."""


@dataclass(frozen=True)
class RolloutContext:
    """The purpose of an episode, and its place in the training.

    `group` is the number of its group, and `weight_version` the number of weight updates before
    it; both are None outside training.
    """

    is_eval: bool = False
    group: int | None = None
    weight_version: int | None = None


class RolloutTracker(Protocol):
    """A training framework's side of an episode: it gives the context, and takes the results."""

    def context(self) -> RolloutContext:
        """Return the context of the current episode."""
        ...

    def record(self, statistics: dict[str, float]) -> None:
        """Record the statistics of an episode."""
        ...

    def remember_outcome(self, outcome: float, share: float = 1.0) -> None:
        """Keep an episode's reward, and the share of it that the last turn got."""
        ...


class NoTracker:
    """A tracker for episodes outside training; it records nothing."""

    def context(self) -> RolloutContext:
        return RolloutContext()

    def record(self, statistics: dict[str, float]) -> None:
        pass

    def remember_outcome(self, outcome: float, share: float = 1.0) -> None:
        pass


class Tau2AgentWorkflow:
    """Plays tau2 tasks; one instance serves any number of concurrent episodes of one event loop.

    Args:
        econfig: fields of `Tau2EnvConfig`.
        gen_args: arguments of each chat completion of the agent, e.g. temperature, top_p,
            max_completion_tokens.
        output_dir: the folder for trajectories; None writes no files.
        model: name of the agent's model; AReaL's proxy ignores it.
        datasets: (path, fields of `TaskFilter`) of each data set that will be played. They are
            read now, and not while episodes are under way. Without any, tau2's tasks of the
            domain are read.
        tracker: records episodes for training; None records nothing. It may be the import path of
            a class, because a training framework hands plain data to its workers.
        trains: whether the agent learns from the episodes. Then its LLM is called once per turn,
            because AReaL's proxy records each call, and an episode without a completion is
            rejected. In an evaluation, a call that the server refuses only for now (HTTP status 429
            or 503) is repeated, and an episode that the user ends at once counts, as in tau2.

    Raises:
        OSError, ValueError: a data set cannot be read, or has tasks that cannot be played.
    """

    def __init__(
        self,
        econfig: dict[str, Any],
        gen_args: dict[str, Any] | None = None,
        output_dir: str | None = None,
        model: str = "default",
        datasets: Iterable[tuple[str, dict[str, Any]]] = (),
        tracker: str | RolloutTracker | None = None,
        trains: bool = True,
    ):
        quiet_tau2()
        silence_costs()
        self.econfig = Tau2EnvConfig(**econfig)
        self.gen_args = gen_args or {}
        self.output_dir = Path(output_dir) if output_dir else None
        self.model = model
        self.tracker = make_tracker(tracker)
        self.trains = trains
        self.user_llm = None
        if not self.econfig.solo_mode:
            self.user_llm = user_llm(
                self.econfig.user_llm, self.econfig.user_llm_base_url, self.econfig.user_llm_args
            )
        self.judge = make_judge(self.econfig)
        filters = tuple((path, TaskFilter(**fields)) for path, fields in datasets)
        _prepare(
            self.econfig.domain, self.econfig.solo_mode, self.econfig.add_thinking_tool, filters
        )
        certificates()

    async def run(
        self,
        data: dict[str, Any],
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """Play the task of a data set's row, and return the episode's rewards by completion id.

        `data` is a row as `find_task_row` takes it. Without `base_url` and `api_key`, openai's
        environment variables decide.

        Raises:
            EpisodeRejected: the episode says nothing about the agent.
        """
        try:
            info = await self.play(data, base_url, api_key, http_client)
        except Exception as error:
            self.tracker.record({"episode/rejected": 1.0})
            cause = str(error) if isinstance(error, EpisodeRejected) else describe_error(error)
            task = task_label(data, self.econfig.domain)
            raise EpisodeRejected(f"{task}: {cause}") from error
        self.tracker.record({"episode/rejected": 0.0, **info.statistics()})
        self.tracker.remember_outcome(
            info.reward, outcome_share(info.actions_matched, self.econfig.action_reward)
        )
        await self._write(info)
        return info.rewards

    async def play(
        self,
        data: dict[str, Any],
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> Tau2RunInfo:
        """Play the episode behind `run`, whose arguments this takes."""
        client = await shared_client(base_url, api_key, http_client)
        return await self.play_with(served_llm(client, self.model, self.gen_args), data)

    async def play_with(self, llm: CallLLM, data: dict[str, Any]) -> Tau2RunInfo:
        """Play the episode with the agent's completions from `llm`."""
        row = find_task_row(data, self.econfig.domain)
        if needs_judge(row.task) and self.judge is None:
            raise EpisodeRejected(NO_JUDGE)
        config = replace(self.econfig, domain=row.domain)
        episode = AsyncOrchestrator(config, row.task, llm, self.user_llm, row.db_path)
        episode.agent.repeat_calls = not self.trains
        await self._converse(episode)
        if not episode.agent.turns and (self.trains or episode.failure):
            reason = episode.termination_reason
            cause = episode.failure or (reason and reason.value)
            raise EpisodeRejected(
                f"{cause} before the agent's first completion: nothing to train on"
            )
        simulation = episode.simulation_run()
        verdicts = await self._judge(simulation, row.task)
        # the evaluation replays the episode: let other episodes go first
        await asyncio.sleep(0)
        return self._evaluate(episode, simulation, verdicts, config, row)

    async def _converse(self, episode: AsyncOrchestrator) -> None:
        """Play the conversation up to the episode's deadline."""
        deadline = asyncio.timeout(self.econfig.timeout)
        try:
            async with deadline:
                await episode.converse()
        except TimeoutError:
            if not deadline.expired():
                raise
            self._end_at_deadline(episode)

    def _end_at_deadline(self, episode: AsyncOrchestrator) -> None:
        """End an episode whose time is up; the agent is at fault.

        Raises:
            EpisodeRejected: the user simulator or a busy server took the time, or the config
                rejects the episode.
        """
        timeout, agent, user = self.econfig.timeout, episode.agent, episode.user
        # a failing server's time is not the agent's, but a short failure excuses nothing
        if isinstance(user, User) and (user.is_thinking or user.lost_seconds > timeout / 10):
            cause = describe_error(user.last_error) if user.last_error else "it was slow"
            raise EpisodeRejected(
                f"the user simulator used up the episode's deadline of {timeout:g} s ({cause})"
            )
        if agent.last_error and agent.lost_seconds > timeout / 10:
            raise EpisodeRejected(
                f"the agent's server was busy for {agent.lost_seconds:.0f} s of the episode's "
                f"{timeout:g} s ({describe_error(agent.last_error)})"
            )
        if self.econfig.reject_on_timeout:
            raise EpisodeRejected(f"not finished within the deadline of {timeout:g} s")
        episode.fail("timeout")

    async def _judge(self, simulation: SimulationRun, task: Task) -> Verdicts:
        """Have the task's assertions judged; this takes nothing of the episode's time.

        Raises:
            JudgeError: there are no verdicts.
        """
        assertions = assertions_to_judge(simulation, task)
        if self.judge is None or not assertions:
            return Verdicts([])
        return await self.judge.judge(simulation.messages, assertions)

    def _evaluate(
        self,
        episode: AsyncOrchestrator,
        simulation: SimulationRun,
        verdicts: Verdicts,
        config: Tau2EnvConfig,
        row: TaskRow,
    ) -> Tau2RunInfo:
        """Have tau2 evaluate an episode that has ended, and return the episode's record."""
        reward_info = evaluate_episode(
            simulation,
            row.task,
            config.domain,
            config.solo_mode,
            config.add_thinking_tool,
            row.db_path,
            verdicts.checks,
        )
        simulation.reward_info = reward_info
        reward = float(reward_info.reward)
        matched = matched_actions(row.task, simulation.messages)
        user = episode.user if isinstance(episode.user, User) else None
        context = self.tracker.context()
        return Tau2RunInfo(
            domain=config.domain,
            task_id=row.task.id,
            solo_mode=config.solo_mode,
            is_eval=context.is_eval,
            weight_version=context.weight_version,
            reward=reward,
            rewards=completion_rewards(
                episode.agent.turns,
                reward,
                config.invalid_format_penalty,
                matched,
                config.action_reward,
            ),
            failure=episode.failure,
            steps=episode.step_count,
            turns=episode.agent.turns,
            user_prompt_tokens=user.prompt_tokens if user else 0,
            user_completion_tokens=user.completion_tokens if user else 0,
            user_usd=user.usd if user else 0.0,
            user_seconds=user.seconds if user else 0.0,
            user_lost_seconds=user.lost_seconds if user else 0.0,
            judge_prompt_tokens=verdicts.prompt_tokens,
            judge_completion_tokens=verdicts.completion_tokens,
            judge_usd=verdicts.usd,
            simulation=simulation,
            add_thinking_tool=config.add_thinking_tool,
            actions_matched=sum(matched.values()),
            group=context.group,
            tau2=tau2_source([config.domain]),
            failure_kinds=failure_kinds(config.domain, row.task, simulation, episode.agent.turns),
        )

    async def _write(self, info: Tau2RunInfo) -> None:
        if self.output_dir is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(_writer, write_trajectory, info, self.output_dir)
        except Exception as error:
            # the episode is good without its file
            if self.output_dir not in _failed_dirs:
                _failed_dirs.add(self.output_dir)
                cause = describe_error(error)
                logger.warning("trajectories under %s are lost: %s", self.output_dir, cause)


def make_tracker(tracker: str | RolloutTracker | None) -> RolloutTracker:
    """Return the tracker that is given, or make one of the class at this import path.

    None makes a tracker that records nothing.

    Raises:
        ImportError, AttributeError, ValueError: the path cannot be imported.
    """
    if tracker is None:
        return NoTracker()
    return resolve_name(tracker)() if isinstance(tracker, str) else tracker


@cache
def _prepare(
    domain: str, solo_mode: bool, thinking_tool: bool, datasets: tuple[tuple[str, TaskFilter], ...]
) -> None:
    """Read the tasks and databases that episodes share, and make the schemas of their tools.

    This is done once per process, although AReaL makes a new workflow for every group.
    """
    rows: list[TaskRow] = []
    for path, task_filter in datasets:
        for data in task_rows(domain, path, solo_mode, task_filter):
            rows.append(find_task_row(data, domain))
    databases: set[tuple[str, str | None]] = {(row.domain, row.db_path) for row in rows}
    if not rows:
        environment.load_tasks(domain)
        databases = {(domain, None)}
    for database_domain, db_path in databases:
        environment.make_environment(database_domain, solo_mode, thinking_tool, db_path)
        environment.agent_schemas(database_domain, solo_mode, thinking_tool)
