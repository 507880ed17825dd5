"""Checks the environment variables of this process, which its workers inherit."""

from collections.abc import Iterator

import httpx

from examples.tau2.episode.network import certificates
from examples.tau2.episode.variables import variable_problems
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_variables(_: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield the environment variables with which a run cannot work."""
    problems = list(variable_problems())
    yield from problems
    if problems:
        return
    try:
        # as AReaL makes one in each worker
        httpx.Client(verify=certificates()).close()
    except ImportError as error:
        yield f"a proxy cannot be used (ALL_PROXY, HTTP_PROXY or HTTPS_PROXY): {error}"
