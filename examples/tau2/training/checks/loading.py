"""Turns a command line into a config, and collects everything that is wrong with its options."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

# pyrefly: ignore [untyped-import]
import yaml
from areal.api.cli_args import parse_cli_args, to_structured_cfg
from omegaconf import DictConfig, OmegaConf

from examples.tau2.data.files import config_problem, yaml_error
from examples.tau2.training.launch import ConfigError
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

Config = TypeVar("Config", bound=Tau2PPOConfig | Tau2SFTConfig)

# the keys that lead to an option, e.g. ("actor", "optimizer", "lr")
OptionPath = tuple[str, ...]


def load_config(argv: list[str], config_class: type[Config]) -> tuple[Config, list[str]]:
    """Load the config of a command line, and return it with the problems of its options.

    It loads what AReaL's `load_expr_config` loads, but writes nothing. An option that does not
    exist, has the wrong type or is missing becomes a problem; the config is then loaded without
    it, so that the other options can be checked.

    Raises:
        ConfigError: the file or an override cannot be read, or no config can be made of them.
    """
    path = Path(argv[argv.index("--config") + 1])
    problem = config_problem(path)
    if problem is None and path.suffix != ".yaml":
        # AReaL adds .yaml to the name of any other file
        problem = "its name must end with .yaml"
    if problem:
        raise ConfigError([f"--config {path}: {problem}"])
    try:
        parsed, _ = parse_cli_args(argv)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            [f"a file that --config {path} builds on: {yaml_error(error)}"]
        ) from error
    except Exception as error:
        raise ConfigError([f"--config {path} or an override: {first_line(error)}"]) from error
    given = _as_dict(parsed)
    problems = _remove_wrong_options(given, config_class)
    try:
        structured = _structured(given, config_class)
        problems += _fill_missing_options(structured)
        config = OmegaConf.to_object(structured)
    except Exception as error:
        raise ConfigError([*problems, first_line(error)]) from error
    assert isinstance(config, config_class)
    if isinstance(config, Tau2PPOConfig):
        problems += _align_turn_discounts(given, config)
    return config, problems


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not blank, or the error's type."""
    for line in str(error).splitlines():
        if line.strip():
            return line
    return type(error).__name__


def _as_dict(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain dicts; interpolations stay as they are written."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _structured(given: dict[str, Any], config_class: type) -> DictConfig:
    """Merge the given options into the defaults of the config class."""
    config = to_structured_cfg(OmegaConf.create(given), config_class)
    assert isinstance(config, DictConfig)
    return config


def _remove_wrong_options(given: dict[str, Any], config_class: type) -> list[str]:
    """Delete the options that do not exist or have the wrong type; return a problem for each."""
    problems = []
    for path, problem in list(_wrong_options(given, config_class)):
        problems.append(f"{'.'.join(path)}: {problem}")
        _delete(given, path)
    return problems


def _wrong_options(
    value: Any, config_class: type, path: OptionPath = ()
) -> Iterator[tuple[OptionPath, str]]:
    """Yield the path of each wrong option at or below `path`, and what is wrong with it.

    `value` is what is given at `path`. Sections are searched only if something is wrong in them,
    because each try takes a while.
    """
    try:
        _structured(_nested(path, value), config_class)
    except Exception as error:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from _wrong_options(inner, config_class, (*path, key))
        else:
            yield path, first_line(error)


def _fill_missing_options(config: DictConfig) -> list[str]:
    """Set each option that has no value to "unset"; return a problem for each."""
    problems = []
    for path, value in _options(_as_dict(config)):
        if value == "???":
            option = ".".join(path)
            OmegaConf.update(config, option, "unset")
            problems.append(f"{option} is not set; add {option}=... to the command line")
    return problems


def _align_turn_discounts(given: dict[str, Any], config: Tau2PPOConfig) -> list[str]:
    """Set AReaL's turn discount to that of `econfig`; return a problem if it was given another."""
    decisive = config.econfig.turn_discount
    other = OmegaConf.select(OmegaConf.create(given), "rollout.agent.turn_discount")
    if other is None or other == decisive:
        return []
    config.rollout.agent.turn_discount = decisive
    return [
        f"rollout.agent.turn_discount={other} contradicts econfig.turn_discount={decisive}; "
        "set the latter only, AReaL's follows from it"
    ]


def _options(section: dict[str, Any], prefix: OptionPath = ()) -> list[tuple[OptionPath, Any]]:
    """Return the path and the value of each option below a section; a list is one value."""
    options = []
    for key, value in section.items():
        path = (*prefix, key)
        if isinstance(value, dict) and value:
            options += _options(value, path)
        else:
            options.append((path, value))
    return options


def _nested(path: OptionPath, value: Any) -> dict[str, Any]:
    """Return a config that has only this option."""
    nested: Any = value
    for key in reversed(path):
        nested = {key: nested}
    return nested


def _delete(config: dict[str, Any], path: OptionPath) -> None:
    """Delete an option, and the sections that are empty without it."""
    key, rest = path[0], path[1:]
    if rest:
        _delete(config[key], rest)
    if not rest or not config[key]:
        del config[key]
