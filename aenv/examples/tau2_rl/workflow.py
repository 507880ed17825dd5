"""AReaL's side of the variant: a workflow for `trainer.train` around a function that plays an episode, in inline mode."""

import inspect
import os
from collections.abc import Iterable
from pkgutil import resolve_name
from typing import Any
from urllib.request import urlopen

import httpx

from examples.tau2.agent import EpisodeRejected, remember_reward, track
from examples.tau2.data.dataset import is_tasks_file
from examples.tau2.data.tasks import task_label
from examples.tau2.episode.llm import describe_error


class RewardFnWorkflow:
    """Plays episodes by `reward_fn_path`, the import path of a function like `agent.run_agent_return_reward`.

    Args:
        econfig: fields of `Tau2EnvConfig`, to which a row of the data set adds its own.
        gen_args: arguments of each chat completion of the agent.
        output_dir: of no use here: the conversation is in the environment.
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

    async def run(
        self,
        data: dict[str, Any],
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        **_: Any,
    ) -> float:
        """The reward of an episode, which AReaL gives to the last completion.

        Raises:
            EpisodeRejected: the episode says nothing about the agent.
        """
        server = {"base_url": base_url, "api_key": api_key, "http_client": http_client}
        try:
            reward = await self.reward_fn({**self.econfig, **data}, **server, **self.gen_args)
        except Exception as error:
            track({"episode/rejected": 1.0})
            raise EpisodeRejected(
                f"{task_label(data, self.econfig.get('domain'))}: {describe_error(error)}"
            ) from error
        track(
            {
                "episode/rejected": 0.0,
                "episode/reward": reward,
                "episode/solved": float(reward >= 1.0),
            }
        )
        remember_reward(reward)
        return reward


def import_function(path: str) -> Any:
    """The coroutine function of this import path.

    Raises:
        ValueError: there is none.
    """
    try:
        function = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be imported: {error}") from error
    if not inspect.iscoroutinefunction(function):
        raise ValueError(f"{path!r} is not an async function")
    return function


def check_reward_function(reward_fn_path: str, datasets: Iterable[str] = ()) -> list[str]:
    """What keeps every episode from being played, a sentence each; `datasets` are the paths of the data sets."""
    try:
        import_function(reward_fn_path)
    except ValueError as error:
        return [f"reward_fn_path: {error}"]
    if not reward_fn_path.startswith(f"{__package__}."):
        return []
    if files := [path for path in datasets if is_tasks_file(path)]:
        return [
            f"reward_fn_path: instances of tau2-env have tau2's tasks only, not {files[0]}; name a tau2/<split>"
        ]
    if os.environ.get("DUMMY_INSTANCE_IP"):
        return [
            "DUMMY_INSTANCE_IP names an instance, which plays one episode: unset it, and set AENV_SYSTEM_URL"
        ]
    from aenv.core.environment import make_mcp_url
    from aenv.examples.tau2_rl.service import CONTROL_PORT

    url = make_mcp_url(
        os.environ.get("AENV_SYSTEM_URL", "http://localhost"), CONTROL_PORT, "/health"
    )
    try:
        urlopen(url, timeout=10).close()
    except OSError as error:
        return [
            f"no AEnvironment service answers at {url} ({error}): set AENV_SYSTEM_URL, "
            "or start one with python -m aenv.examples.tau2_rl.service"
        ]
    return []
