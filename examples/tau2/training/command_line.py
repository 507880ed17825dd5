"""Reads the command line of a run: its config, and its overrides as Hydra wants them."""

from collections import deque
from difflib import get_close_matches
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from examples.tau2.data.files import expanded_path

OPTIONS = ("--config", "--check", "--help")
# texts copied from web pages may have the long ones
DASHES = ("-", "\N{EN DASH}", "\N{EM DASH}")


def read_command_line(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments for AReaL, `--config`, its value and overrides, and the problems.

    `--check` is left out.
    """
    configs: list[str] = []
    overrides: list[str] = []
    problems: list[str] = []
    words: list[str] = []
    arguments = deque(argument for argument in argv if argument != "--check")
    while arguments:
        argument = arguments.popleft()
        name, equals, value = argument.partition("=")
        if name == "--config":
            configs.append(value if equals or not arguments else arguments.popleft())
        elif argument.startswith(DASHES):
            similar = get_close_matches(name, OPTIONS, n=1)
            # the next argument may be the value of an option that does not exist
            takes_value = not equals and similar in ([], ["--config"])
            if takes_value and arguments and _is_word(arguments[0]):
                value = arguments.popleft()
            problems.append(_unknown_option(argument, value, similar))
        elif _is_word(argument):
            words.append(argument)
        else:
            overrides.append(as_hydra_override(argument))
            problems += _override_problems(argument, overrides[-1])
    problems = [*_config_problems(configs), *problems, *_word_problems(words)]
    return ["--config", *(str(expanded_path(path)) for path in configs), *overrides], problems


def as_hydra_override(argument: str) -> str:
    """Spell an override as Hydra wants it: `a[0].b=~/x (1)` becomes `++a.0.b='/home/ann/x (1)'`.

    Without `++`, Hydra refuses a field that the YAML does not name; it does not know `[0]`.
    """
    option, equals, value = argument.partition("=")
    if not equals or option.startswith("~"):
        return argument
    prefix = "" if option.startswith("+") else "++"
    option = option.strip().replace("[", ".").replace("]", "")
    return f"{prefix}{option}={_hydra_value(value)}"


def _hydra_value(value: str) -> str:
    """Expand `~`, and quote a text in which Hydra's grammar sees something else, or nothing."""
    if value.startswith("~"):
        value = str(expanded_path(value))
    # in lists and mappings, quotes are the user's
    if value.startswith(("[", "{")) or _parse_error(f"option={value}") is None:
        return value
    return QuotedString(value, Quote.single).with_quotes()


def _parse_error(override: str) -> str | None:
    """Say why Hydra cannot read an override as one value; None if it can."""
    try:
        parsed = _parser().parse_override(override)
    except HydraException as error:
        return str(error).partition("\n")[0]
    return "it has several values" if parsed.is_sweep_override() else None


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _override_problems(argument: str, override: str) -> list[str]:
    error = _parse_error(override)
    if error is None:
        return []
    problem = f"{argument}: Hydra cannot read this override ({error})"
    if argument.partition("=")[2].startswith(("[", "{")):
        problem += "; in a list or a mapping, put quotes around texts with unusual characters"
    return [problem]


def _is_word(argument: str) -> bool:
    """Whether an argument is neither an option nor an override; `~option` deletes an option."""
    deletes = argument.startswith("~") and not argument.endswith(".yaml")
    return argument.startswith("=") or not (
        argument.startswith(DASHES) or "=" in argument or deletes
    )


def _config_problems(paths: list[str]) -> list[str]:
    if len(paths) == 1 and paths[0]:
        return []
    given = f"{' and '.join(paths)} are given" if any(paths) else "it is missing"
    return [f"--config: {given}; name one YAML, such as --config examples/tau2/config_cpu.yaml"]


def _unknown_option(argument: str, value: str, similar: list[str]) -> str:
    if similar:
        return f"{argument} is no option; did you mean {similar[0]}?"
    name = argument.partition("=")[0]
    override = f"{name.lstrip(''.join(DASHES))}={value or '...'}"
    return f"{name} is no option; an override has no dashes: {override}"


def _word_problems(words: list[str]) -> list[str]:
    if not words:
        return []
    text = " ".join(words)
    if text.endswith((".yaml", ".yml")):
        return [f"{text}: a config is named by --config {text}"]
    return [f"{text}: an override is option=value, without spaces around the ="]
