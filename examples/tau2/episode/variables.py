"""The environment variables that a command needs to be right before it does anything."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from examples.tau2.episode.keys import key_problems
from examples.tau2.episode.network import network_problems


def check_variables() -> None:
    """Check the keys, certificates and proxies.

    Raises:
        ValueError: a variable cannot be used; the message has a line for each of them.
    """
    problems = list(variable_problems())
    if problems:
        raise ValueError("\n".join(problems))


def variable_problems() -> Iterator[str]:
    """Yield the environment variables that cannot be used, with what to do about each."""
    yield from key_problems()
    yield from network_problems()


def provider_servers(
    models: Iterable[str | None], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables that give litellm's providers of some models another server.

    Such a variable is OPENAI_BASE_URL. The URLs are without passwords.
    """
    from litellm import model_cost

    servers = {}
    for model in filter(None, models):
        prefix, slash, _ = model.partition("/")
        known = model_cost.get(model, {}).get("litellm_provider")
        provider = prefix if slash else known or "openai"
        for name in (f"{provider}_BASE_URL".upper(), f"{provider}_API_BASE".upper()):
            if environ.get(name):
                servers[name] = re.sub(r"//[^/]*@", "//", environ[name])
    return servers
