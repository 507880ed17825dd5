"""Checks that no option has the placeholder that stands in a config for the user to replace."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

_PLACEHOLDER = re.compile(r"/path/to\b|<[^<>]+>")


def check_placeholders(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield each placeholder once, with the option to set."""
    for value, option in options_by_text(config).items():
        if is_placeholder(value):
            yield f"{option}={value} is a placeholder; set it"


def options_by_text(config: Tau2PPOConfig | Tau2SFTConfig) -> dict[str, str]:
    """Return each text in a config with the option that it stands for; one, if several have it."""
    options = list(_strings(asdict(config)))
    # other options take over the values of these by interpolation
    options.sort(key=lambda option: not option[0].startswith(("cluster.", "actor.")))
    option_of: dict[str, str] = {}
    for option, value in options:
        option_of.setdefault(value, option)
    return option_of


def is_placeholder(value: str) -> bool:
    """Return whether a value is a placeholder: it has `/path/to` or `<something>` in it."""
    return bool(_PLACEHOLDER.search(value))


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the value of each string in nested dicts and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value
