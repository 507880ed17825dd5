"""AReaL's workflow around a function that plays an episode, and the check of that function."""

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from pkgutil import resolve_name
from typing import Any
from urllib.request import urlopen

import httpx

from aenv.examples.tau2_rl.service import CONTROL_PORT
from examples.tau2.agent import EpisodeRejected
from examples.tau2.data.dataset import is_tasks_file
from examples.tau2.data.tasks import task_label
from examples.tau2.episode.failures import describe_error
from examples.tau2.training.tracker import ArealTracker


class RewardFnWorkflow:
    """Plays episodes by a function like `agent.run_agent_return_reward`, in AReaL's inline mode.

    Args:
        reward_fn_path: the function's import path.
        econfig: fields of `Tau2EnvConfig`; a row of the data set adds its own.
        gen_args: arguments of each chat completion of the agent.
        output_dir: not used, because the conversation is in the environment.

    Raises:
        ValueError: the path cannot be imported, or is not that of an async function.
    """

    def __init__(
        self,
        reward_fn_path: str,
        econfig: dict[str, Any],
        gen_args: dict[str, Any] | None = None,
        output_dir: str | None = None,
    ):
        self.reward_fn = import_function(reward_fn_path)
        self.econfig = econfig
        self.gen_args = gen_args or {}
        self.tracker = ArealTracker()

    async def run(
        self,
        data: dict[str, Any],
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        **_: Any,
    ) -> float:
        """Play an episode and return its reward, which AReaL gives to the last completion.

        Raises:
            EpisodeRejected: the episode says nothing about the agent.
        """
        server = {"base_url": base_url, "api_key": api_key, "http_client": http_client}
        try:
            reward = await self.reward_fn({**self.econfig, **data}, **server, **self.gen_args)
        except Exception as error:
            self.tracker.record({"episode/rejected": 1.0})
            task = task_label(data, str(self.econfig.get("domain")))
            raise EpisodeRejected(f"{task}: {describe_error(error)}") from error
        self.tracker.record(
            {
                "episode/rejected": 0.0,
                "episode/reward": reward,
                "episode/solved": float(reward >= 1.0),
            }
        )
        self.tracker.remember_outcome(reward)
        return reward


def import_function(path: str) -> Callable[..., Awaitable[float]]:
    """Import a coroutine function.

    Raises:
        ValueError: the path cannot be imported, or is not that of an async function.
    """
    try:
        function = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be imported: {error}") from error
    if not inspect.iscoroutinefunction(function):
        raise ValueError(f"{path!r} is not an async function")
    return function


def check_reward_function(reward_fn_path: str, datasets: Iterable[str] = ()) -> list[str]:
    """List the problems that would keep every episode from being played, a sentence each.

    `datasets` are the paths of the data sets.
    """
    try:
        import_function(reward_fn_path)
    except ValueError as error:
        return [f"reward_fn_path: {error}"]
    if not reward_fn_path.startswith(f"{__package__}."):
        return []
    tasks_files = [path for path in datasets if is_tasks_file(path)]
    if tasks_files:
        return [
            f"reward_fn_path: instances of tau2-env have tau2's tasks only, not {tasks_files[0]}; "
            "name a tau2/<split>"
        ]
    if os.environ.get("DUMMY_INSTANCE_IP"):
        return [
            "DUMMY_INSTANCE_IP names an instance, which plays one episode: "
            "unset it, and set AENV_SYSTEM_URL"
        ]
    return _check_service()


def _check_service() -> list[str]:
    from aenv.core.environment import make_mcp_url
    from aenv.examples.tau2_rl.sdk_environment import no_service

    host = os.environ.get("AENV_SYSTEM_URL", "http://localhost")
    url = make_mcp_url(host, str(CONTROL_PORT), "/health")
    try:
        urlopen(url, timeout=10).close()
    except OSError as error:
        return [no_service(url, error)]
    return []
