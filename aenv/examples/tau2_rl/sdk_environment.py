"""Calls the AEnvironment SDK in the background, and tells an instance which episode to play."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

from aenv.core.environment import Environment
from aenv.core.exceptions import AEnvError
from examples.tau2.episode.config import VARIABLES
from examples.tau2.episode.network import proxy_of

# at level INFO the SDK logs the user LLM's API key
logging.getLogger("aenv").setLevel(logging.WARNING)

ENVIRONMENT = "tau2-env@1.0.0"
# the variables of the user LLM and of the judge, which instances get from this process
LLMS = tuple(
    f"TAU2_{role}_LLM{part}" for role in ("USER", "JUDGE") for part in ("", "_API_BASE", "_API_KEY")
)


class BackgroundEnvironment(Environment):
    """The SDK's environment, whose calls run in the SDK's own event loop, one at a time.

    The SDK makes a new HTTP client for each call of a function. Each client reads all certificates,
    which takes 30 to 50 ms. In the rollouts' event loop, all other episodes would wait for that.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._one_call = asyncio.Lock()

    # the SDK has this parameter
    async def wait_for_ready(self, timeout: float = 300.0) -> None:  # noqa: ASYNC109
        """Do nothing, so that `initialize` returns as soon as the instance's id is known.

        The SDK calls this within `initialize`. `wait_until_ready` does the waiting.
        """

    async def wait_until_ready(self) -> None:
        """Wait until the instance runs and is healthy.

        Raises:
            AEnvError: the instance failed, or is not ready in time.
        """
        if not self.dummy_instance_ip:
            await super().wait_for_ready(self._startup_timeout)

    async def in_background(
        self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any
    ) -> Any:
        """Await `call(*arguments)` in the SDK's event loop.

        A cancelled call has ended before the next call, e.g. the release, begins.

        Raises:
            AEnvError: the service or the instance failed. If the instance gave a reason, the
                message is that reason.
        """
        running = asyncio.run_coroutine_threadsafe(self._call(call, *arguments), _sdk_loop())
        return await asyncio.wrap_future(running)

    async def _call(self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        try:
            async with self._one_call:
                return await call(*arguments)
        except AEnvError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # the SDK turned the cancellation into an error
                raise asyncio.CancelledError from error
            _, separator, reason = str(error).partition("Server error: ")
            if separator:
                raise AEnvError(reason) from None
            if "Network error" in str(error):
                raise AEnvError(no_service(self.aenv_control_url, error)) from error
            raise


def no_service(url: str, error: Exception) -> str:
    """Say that the service at this URL does not answer, and what to do."""
    proxy = proxy_of(url)
    by_proxy = f" by the proxy of {proxy}" if proxy else ""
    return (
        f"no AEnvironment service answers at {url}{by_proxy} ({error}): set AENV_SYSTEM_URL, "
        "or start one with python -m aenv.examples.tau2_rl.service"
    )


@cache
def _sdk_loop() -> asyncio.AbstractEventLoop:
    """Start the SDK's event loop in a thread of its own, once per process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="aenv", daemon=True).start()
    return loop


def environment_variables(data: dict[str, Any]) -> dict[str, str]:
    """Make the environment variables that tell an instance of `tau2-env` which episode it plays.

    `data` is that of `run_agent_return_reward`. Values that are None are left out.

    Raises:
        ValueError: `data` names a tasks file or a database; instances do not get these.
    """
    for key in ("tasks_file", "db_path"):
        if data.get(key):
            raise ValueError(
                f"instances of tau2-env have tau2's tasks and databases only, not {key}"
            )
    values: dict[str, Any] = {name: os.environ.get(name) or None for name in LLMS}
    for key, name in VARIABLES.items():
        if data.get(key) is not None:
            values[name] = data[key]
    values["TAU2_TASK_ID"] = data["task_id"]
    return {name: _as_text(value) for name, value in values.items() if value is not None}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
