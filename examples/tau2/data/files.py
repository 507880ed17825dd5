"""Says what a file or a folder is, so that a command can name the one that it cannot use."""

import codecs
import os
import re
from pathlib import Path
from typing import Any

# pyrefly: ignore [untyped-import]
import yaml
from omegaconf import DictConfig, OmegaConf
from pydantic_core import from_json

TRAJECTORY = "a trajectory"
EPISODES = "an evaluation's episodes.jsonl"
TAU2_RESULTS = "tau2's results"
TASKS = "a tasks file"
TURNS = "a file of turns"
CONFIG = "a config"
EVALUATION_FOLDER = "an evaluation's folder"
RUN_FOLDER = "a training run's folder"
TEXT = "text that is no JSON"
# how the kind of a file begins that is JSON, but none of the above
ONE_OBJECT = "one JSON object over many lines"
OTHER_JSON = "JSON"

# this number of bytes of a file is read to recognize it
HEAD = 1 << 16

# first bytes of files that are neither JSON nor YAML
_FIRST_BYTES = {
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PK\x03\x04": "a zip archive",
    codecs.BOM_UTF16_LE: "text in UTF-16, not in UTF-8",
    codecs.BOM_UTF16_BE: "text in UTF-16, not in UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS to a file that was not fetched",
    b"<": "HTML or XML",
}
# fields that only objects of one kind have, as far as they stand at the beginning
_FIELDS = {
    TRAJECTORY: {"task_id", "solo_mode", "is_eval"},
    TURNS: {"messages", "answer"},
    "an evaluation's settings.json": {"econfig", "sampling"},
    "an evaluation's summary.json": {"by_task", "episodes"},
    "tau2's summary of its results": {"num_simulations", "metrics"},
    "tau2's summary of terminations": {"total_simulations", "termination_reasons"},
    "a run's statistics.jsonl": {"step", "seconds"},
}
_TASK_FIELDS = {"user_scenario", "evaluation_criteria"}
_CONFIG_LINE = re.compile(rb"^(?:defaults|econfig|experiment_name|actor):", re.MULTILINE)
_TRIAL_NUMBER = re.compile(rb"\d+ (?=\{)")


class WrongFile(ValueError):
    """A file or a folder is of another kind than the one that is wanted."""


def expanded_path(text: str) -> Path:
    """Make the path that an option gives, in which the shell may have left a `~`."""
    return Path(os.path.expanduser(text))


def refuse_other_kinds(path: str | Path, wanted: str, *kinds: str) -> None:
    """Refuse a file or a folder that is of none of these kinds.

    Raises:
        WrongFile: the message names the kind that it is of, and what is `wanted`.
        OSError: it cannot be read.
    """
    kind = kind_of(path)
    if not kind.startswith(kinds):
        raise WrongFile(f"this is {kind}; {wanted} is wanted")


def kind_of(path: str | Path) -> str:
    """Say in a few words what a file or a folder is; of a file, only the beginning is read.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _kind_of_folder(path)
    with path.open("rb") as file:
        return _kind_of_text(file.read(HEAD))


def config_problem(path: Path) -> str | None:
    """Say in one line why a file cannot be read as a mapping in YAML; None if it can."""
    try:
        kind = kind_of(path)
    except OSError as error:
        return str(error.strerror).lower()
    wrong_kind = f"this is {kind}; a config, *.yaml, is wanted"
    if not kind.startswith((CONFIG, TEXT, ONE_OBJECT, OTHER_JSON)):
        return wrong_kind
    try:
        config = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        return yaml_error(error)
    except (yaml.YAMLError, ValueError, OSError):
        # OmegaConf has an OSError for a text that is neither a mapping nor a list
        return wrong_kind
    return None if isinstance(config, DictConfig) else wrong_kind


def yaml_error(error: yaml.MarkedYAMLError) -> str:
    """Say in one line what is wrong with a YAML, and in which line."""
    place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    # YAML knows tabs only within texts
    hint = "; indent by spaces, not by tabs" if "start any token" in str(error.problem) else ""
    return f"{place}no YAML: {error.problem}{hint}"


def _kind_of_folder(path: Path) -> str:
    if (path / "episodes.jsonl").is_file():
        return EVALUATION_FOLDER
    if (path / "generated").is_dir() or (path / "statistics.jsonl").is_file():
        return RUN_FOLDER
    for file in sorted(path.glob("*.json"))[:10]:
        kind = kind_of(file)
        if kind in (TRAJECTORY, TAU2_RESULTS):
            return f"a folder with {kind}"
    return "a folder" if any(path.iterdir()) else "an empty folder"


def _kind_of_text(head: bytes) -> str:
    """Say what a file is that begins with these bytes."""
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not head:
        return "empty"
    for beginning, kind in _FIRST_BYTES.items():
        if head.startswith(beginning):
            return kind
    trial = _TRIAL_NUMBER.match(head)
    if trial:
        head = head[trial.end() :]
    is_json = head.startswith((b"{", b"["))
    try:
        # a character may be cut off at the end
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return f"{OTHER_JSON} with an error: no UTF-8" if is_json else "no text in UTF-8"
    if b"\0" in head:
        return "no text in UTF-8"
    if not is_json:
        return CONFIG if _CONFIG_LINE.search(head) else TEXT
    try:
        value = from_json(head, allow_partial="trailing-strings")
    except ValueError as error:
        return f"{OTHER_JSON} with an error: {error}"
    kind = _kind_of_json(value, over_lines=not _is_json(head.partition(b"\n")[0], head))
    return EPISODES if trial and kind == TRAJECTORY else kind


def _is_json(line: bytes, head: bytes) -> bool:
    """Whether the first line of a file is JSON, or is too long to know."""
    if line == head:
        return True
    try:
        from_json(line)
    except ValueError:
        return False
    return True


def _kind_of_json(value: Any, over_lines: bool) -> str:
    """Say what a file is whose first value is this; the end of the value may be missing."""
    if isinstance(value, list):
        if not (value and isinstance(value[0], dict)):
            return f"{OTHER_JSON}, an array without objects"
        if _TASK_FIELDS & value[0].keys():
            return TASKS
        return f"{OTHER_JSON}, an array of objects with the fields {_names(value[0])}"
    info = value.get("info")
    if isinstance(info, dict) and "git_commit" in info:
        return TAU2_RESULTS
    kinds = [kind for kind, fields in _FIELDS.items() if fields <= value.keys()]
    if kinds and not (over_lines and kinds == [TURNS]):
        return kinds[0]
    if over_lines:
        return f"{ONE_OBJECT}, with the fields {_names(value)}"
    if _TASK_FIELDS & value.keys():
        return TASKS
    return f"{OTHER_JSON} with the fields {_names(value)}"


def _names(value: dict[str, Any]) -> str:
    return ", ".join(list(value)[:5]) or "none"
