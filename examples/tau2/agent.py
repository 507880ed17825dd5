"""One episode: a tau2 task is played by the agent behind an OpenAI-compatible endpoint, evaluated, and recorded.

`Tau2AgentWorkflow.run` returns the rewards by completion id, which is what AReaL trains on. It raises `EpisodeRejected`
where the episode says nothing about the agent. Without AReaL the same workflow evaluates and debugs.
"""

import asyncio
import logging
import sys
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from examples.tau2 import quiet_tau2
from examples.tau2.data import tasks
from examples.tau2.data.dataset import TaskFilter, task_rows
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import (
    CallLLM,
    agent_llm,
    describe_error,
    shared_client,
    ssl_context,
    user_llm,
)
from examples.tau2.episode.reward import (
    completion_rewards,
    evaluate_episode,
    matched_actions,
    shaped_reward,
)
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.episode.trajectory import Tau2RunInfo, write_trajectory

logger = logging.getLogger(__name__)


class EpisodeRejected(RuntimeError):
    """The episode ended by no doing of the agent; the message names the task and the cause."""


class Tau2AgentWorkflow:
    """Plays tau2 tasks; one instance serves any number of concurrent episodes of one event loop.

    Args:
        econfig: fields of `Tau2EnvConfig`.
        gen_args: arguments of each chat completion of the agent, e.g. temperature, top_p, max_completion_tokens.
        output_dir: where trajectories go; None writes none.
        model: name of the agent's model; AReaL's proxy ignores it.
        datasets: (path, fields of `TaskFilter`) of each data set that will be played, to be read now and not while episodes
            are under way; none: tau2's tasks of the domain.

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
    ):
        quiet_tau2()
        self.econfig = Tau2EnvConfig(**econfig)
        self.gen_args = gen_args or {}
        self.output_dir = output_dir and Path(output_dir)
        self.model = model
        self.user_llm = None
        if not self.econfig.solo_mode:
            self.user_llm = user_llm(
                self.econfig.user_llm, self.econfig.user_llm_base_url, self.econfig.user_llm_args
            )
        chosen = tuple((path, TaskFilter(**fields)) for path, fields in datasets)
        _prepare(
            self.econfig.domain, self.econfig.solo_mode, self.econfig.add_thinking_tool, chosen
        )
        ssl_context()

    async def run(
        self,
        data: dict[str, Any],
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """Play the task of a data set's row (see `tasks.find`) and return the rewards of the episode by completion id.

        Without `base_url` and `api_key`, openai's environment variables decide.

        Raises:
            EpisodeRejected: see the class.
        """
        try:
            info = await self.play(data, base_url, api_key, http_client)
        except Exception as error:
            track({"episode/rejected": 1.0})
            cause = str(error) if isinstance(error, EpisodeRejected) else describe_error(error)
            raise EpisodeRejected(
                f"{tasks.task_label(data, self.econfig.domain)}: {cause}"
            ) from error
        track({"episode/rejected": 0.0, **info.statistics()})
        remember_reward(
            shaped_reward(info.reward, info.actions_matched, self.econfig.action_reward)
        )
        await self._write(info)
        return info.rewards

    async def play(
        self, data: dict[str, Any], base_url=None, api_key=None, http_client=None
    ) -> Tau2RunInfo:
        """The episode behind `run`, whose arguments it takes."""
        client = await shared_client(base_url, api_key, http_client)
        return await self.play_with(agent_llm(client, self.model, self.gen_args), data)

    async def play_with(self, llm: CallLLM, data: dict[str, Any]) -> Tau2RunInfo:
        """The episode with the agent's completions from `llm`."""
        row = tasks.find_task_row(data, self.econfig.domain)
        config, task = replace(self.econfig, domain=row.domain), row.task
        episode = AsyncOrchestrator(config, task, llm, self.user_llm, row.db_path)
        try:
            async with asyncio.timeout(config.timeout) as deadline:
                await episode.converse()
        except TimeoutError:
            if not deadline.expired():
                raise
            self._at_deadline(episode)
        if not episode.agent.turns:
            cause = episode.failure or episode.termination_reason.value
            raise EpisodeRejected(
                f"{cause} before the agent's first completion: nothing to train on"
            )
        await asyncio.sleep(0)  # other episodes first: the evaluation replays this one
        simulation = episode.simulation_run()
        simulation.reward_info = evaluate_episode(
            simulation, task, config.domain, config.solo_mode, config.add_thinking_tool, row.db_path
        )
        user, reward = episode.user, float(simulation.reward_info.reward)
        matched = matched_actions(task, simulation.messages)
        is_eval, group, version = _training_context()
        return Tau2RunInfo(
            domain=config.domain,
            task_id=task.id,
            solo_mode=config.solo_mode,
            is_eval=is_eval,
            weight_version=version,
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
            user_prompt_tokens=getattr(user, "prompt_tokens", 0),
            user_completion_tokens=getattr(user, "completion_tokens", 0),
            user_seconds=getattr(user, "seconds", 0.0),
            user_lost_seconds=getattr(user, "lost_seconds", 0.0),
            simulation=simulation,
            add_thinking_tool=config.add_thinking_tool,
            actions_matched=sum(matched.values()),
            group=group,
        )

    def _at_deadline(self, episode: AsyncOrchestrator) -> None:
        timeout, user = self.econfig.timeout, episode.user
        # the time that a failing user simulator took is not the agent's; a hiccup of it excuses nothing
        if not self.econfig.solo_mode and (user.is_thinking or user.lost_seconds > timeout / 10):
            cause = describe_error(user.last_error) if user.last_error else "it was slow"
            raise EpisodeRejected(
                f"the user simulator used up the episode's deadline of {timeout:g} s ({cause})"
            )
        if self.econfig.reject_on_timeout:
            raise EpisodeRejected(f"not finished within the deadline of {timeout:g} s")
        episode.fail("timeout")

    async def _write(self, info: Tau2RunInfo) -> None:
        if self.output_dir is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(
                _writer, write_trajectory, info, self.output_dir
            )
        except Exception as error:  # whatever is wrong with a file, the episode is good
            if self.output_dir not in _failed_dirs:
                _failed_dirs.add(self.output_dir)
                logger.warning(
                    "trajectories under %s are lost: %s", self.output_dir, describe_error(error)
                )


@cache
def _prepare(
    domain: str, solo_mode: bool, thinking_tool: bool, datasets: tuple[tuple[str, TaskFilter], ...]
) -> None:
    """Read and make what episodes share: once per process, though AReaL makes a new workflow for every group."""
    rows = [
        tasks.find_task_row(data, domain)
        for path, chosen in datasets
        for data in task_rows(domain, path, solo_mode, chosen)
    ]
    if not rows:
        environment.load_tasks(domain)
    for played_on, db_path in {(row.domain, row.db_path) for row in rows} or {(domain, None)}:
        environment.make_environment(played_on, solo_mode, thinking_tool, db_path)
        environment.agent_schemas(played_on, solo_mode, thinking_tool)


def has_mixed_rewards(trajectory: dict[str, Any]) -> bool:
    """AReaL's `dynamic_filter_fn`: accept a group unless all its episodes got the same reward, which teaches GRPO nothing.

    AReaL hands over the tensors of the group's interactions, after penalties and turn discounts and without episode
    boundaries; what counts are tau2's rewards of the episodes, which `run` has remembered under the group's task id.
    """
    rewards = _rewards.pop(_areal("infra.workflow_context").get().task_id, [])
    return len(set(rewards)) > 1


# of this process: AReaL makes a new workflow for every group
_failed_dirs: set[Path] = set()
# one thread: of several, each in turn may keep the event loop waiting for Python's lock, for 5 ms
_writer = ThreadPoolExecutor(1, "trajectories")
_rewards: OrderedDict[int, list[float]] = OrderedDict()  # by AReaL's task id, one per group


def remember_reward(reward: float) -> None:
    """Tell `has_mixed_rewards` the reward of an episode of the group that AReaL is playing."""
    context = _areal("infra.workflow_context")
    if context and not context.get().is_eval and (task_id := context.get().task_id) is not None:
        _rewards.setdefault(task_id, []).append(reward)
    while len(_rewards) > 10_000:  # groups that AReaL rejected, or never filters
        _rewards.popitem(last=False)


def _areal(module: str):
    """A module of AReaL if this process runs under AReaL."""
    return sys.modules.get(f"areal.{module}")


def _training_context() -> tuple[bool, int | None, int | None]:
    """Whether this is an evaluation, the group's number, and the version of the weights that AReaL's rollout engine serves."""
    context, worker = _areal("infra.workflow_context"), _areal("infra.rpc.guard.engine_blueprint")
    is_eval, group = (context.get().is_eval, context.get().task_id) if context else (False, None)
    engines = list(worker._engines.values()) if worker else []
    return is_eval, group, max((engine.get_version() for engine in engines), default=None)


def track(statistics: dict[str, float]) -> None:
    """Add an episode's numbers to AReaL's statistics, if this process runs under AReaL."""
    tracker, context = _areal("utils.stats_tracker"), _areal("infra.workflow_context")
    if tracker and context:
        tracker.get(context.stat_scope()).scalar(**statistics)
