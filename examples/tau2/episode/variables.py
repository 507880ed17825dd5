"""The environment variables that a command needs to be right before it does anything."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import overload

from examples.tau2.episode.keys import key_problems
from examples.tau2.episode.network import network_problems


def require_variables() -> None:
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
    """Return the variables, such as OPENAI_BASE_URL, that send calls of these models elsewhere.

    Only models of litellm's providers are asked about. Passwords are removed from the URLs.
    """
    from litellm import model_cost

    servers = {}
    for model in filter(None, models):
        prefix, slash, _ = model.partition("/")
        known = model_cost.get(model, {}).get("litellm_provider")
        provider = prefix if slash else known or "openai"
        for name in (f"{provider}_BASE_URL".upper(), f"{provider}_API_BASE".upper()):
            if environ.get(name):
                servers[name] = without_password(environ[name])
    return servers


@overload
def without_password(url: str) -> str: ...
@overload
def without_password(url: None) -> None: ...
def without_password(url: str | None) -> str | None:
    """Remove the user's name and password from a URL."""
    return url and re.sub(r"//[^/]*@", "//", url)
