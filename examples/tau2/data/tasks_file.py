"""Reads and validates tasks files, which have tau2 tasks of the user's own.

A tasks file is JSONL with a tau2 `Task` in each line, like inclusionAI/AReaL-tau2-data, or a JSON
array of tasks, like tau2's `tasks.json`. Its path may be the URL of a file on the Hugging Face hub.
A task may also have a `db_path`, the path of its database relative to the file's folder. Its
`evaluation_criteria` may be a string of JSON. Its domain is `user_scenario.instructions.domain`, if
the instructions are an object and have it. Ids need not be unique: a task is known by its row,
which is the number of the line or, in an array, of the entry, from 1.
"""

import codecs
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from tau2.data_model.tasks import Task

from examples.tau2.data.files import OTHER_JSON, TASKS, refuse_other_kinds
from examples.tau2.data.hub import HubError, is_hub_file, local_database, local_path

WANTED = "a tasks file, JSONL with a task per line or a JSON array of tasks,"


@dataclass(frozen=True)
class TaskRow:
    """A task, with its domain and database.

    - `db_path`: the file of the database; None for the domain's own.
    - `place`: the place of the task in its file, for messages.
    """

    task: Task
    domain: str
    db_path: str | None
    place: str


@cache
def read_tasks_file(path: str, domain: str) -> tuple[dict[int, TaskRow], dict[int, str]]:
    """Read the tasks of a file by row, and say what is wrong with the rows that are no tasks.

    Args:
        domain: the domain of tasks that name none.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is of another kind, or an array that is no JSON.
        HubError: the hub does not give the file or a database.
    """
    copy = local_path(path)
    refuse_other_kinds(copy, WANTED, TASKS, OTHER_JSON)
    with open(copy, "rb") as file:
        data = file.read().removeprefix(codecs.BOM_UTF8)
    is_array = data.lstrip().startswith(b"[")
    rows: dict[int, TaskRow] = {}
    problems: dict[int, str] = {}
    for number, place, entry in _array_entries(data) if is_array else _line_entries(data):
        try:
            row = _task_row(entry, path, domain, place)
        except HubError:
            # to ask the hub again for each row would take long
            raise
        except ValueError as error:
            problems[number] = f"{place}: {error}"
        else:
            row.task.id = f"{path}:{number}:{row.task.id}"
            rows[number] = row
    if problems and not rows:
        refuse_other_kinds(copy, WANTED, TASKS)
    return rows, problems


def tasks_file_digest(path: str, domain: str) -> str:
    """Hash a tasks file and its databases: a change of any of them changes the result."""
    rows, _ = read_tasks_file(path, domain)
    databases = {row.db_path for row in rows.values() if row.db_path is not None}
    digests = []
    for file in (local_path(path), *sorted(databases)):
        with open(file, "rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def explain_error(error: Exception) -> str:
    """Explain in one line what is wrong with a value, with a file, or with its content."""
    if isinstance(error, ValidationError):
        problems = []
        for problem in error.errors():
            location = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{location}: {problem['msg']}" if location else problem["msg"])
        if len(problems) > 3:
            problems = [*problems[:3], f"{len(problems) - 3} more"]
        return "; ".join(problems)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).replace("\n", " ")[:200] or type(error).__name__


def _line_entries(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Yield (row, place, entry) of each line that is not blank."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, f"line {number}", line


def _array_entries(data: bytes) -> Iterator[tuple[int, str, Any]]:
    """Yield (row, place, entry) of each entry of an array; its place names its first line."""
    text = data.decode()
    entries = _parse(text, "no JSON")
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    end = text.index("[") + 1
    for number, entry in enumerate(entries, 1):
        start = _start_of_entry(text, end)
        line += text.count("\n", counted, start)
        counted = start
        _, end = decoder.raw_decode(text, start)
        yield number, f"task {number}, line {line}", entry


def _start_of_entry(text: str, position: int) -> int:
    while text[position] in ", \t\r\n":
        position += 1
    return position


def _task_row(entry: Any, path: str, domain: str, place: str) -> TaskRow:
    """Validate an entry of a tasks file.

    Raises:
        ValueError: what is wrong with the entry.
    """
    if isinstance(entry, bytes):
        entry = _parse(entry, "no JSON")
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    criteria = entry.get("evaluation_criteria")
    if isinstance(criteria, str):
        entry["evaluation_criteria"] = _parse(
            criteria, "evaluation_criteria is a string, but no JSON"
        )
    scenario = entry.get("user_scenario")
    instructions = scenario.get("instructions") if isinstance(scenario, dict) else None
    if isinstance(instructions, dict):
        domain = instructions.setdefault("domain", domain)
    try:
        task = Task.model_validate(entry)
    except ValidationError as error:
        raise ValueError(f"no tau2 Task: {explain_error(error)}") from None
    return TaskRow(task, domain, _database_path(path, entry.get("db_path")), place)


def _parse(text: str | bytes, problem: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{problem}: {explain_error(error)}") from None


def _database_path(path: str, db_path: Any) -> str | None:
    """Find the database that a tasks file names; it must be under the file's folder.

    On a disk, it must be there when all links are followed.
    """
    if db_path is None:
        return None
    if not isinstance(db_path, str) or "\0" in db_path:
        raise ValueError(f"db_path {db_path!r} is no path")
    if is_hub_file(path):
        return local_database(path, db_path)
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    real_path = os.path.realpath(os.path.join(folder, db_path))
    if os.path.commonpath([folder, real_path]) != folder:
        raise ValueError(f"db_path {db_path!r} leads out of the file's folder")
    return real_path
