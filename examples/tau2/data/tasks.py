"""Tasks that a row of a data set names: tau2's own by their ids, those of a tasks file by the file and their place in it.

A tasks file is JSONL, a tau2 `Task` in each line as in inclusionAI/AReaL-tau2-data, or a JSON array of them like tau2's
`tasks.json`. A task may also have a `db_path`, its database relative to the file's folder, and `evaluation_criteria` may be
a string of JSON. The domain is `user_scenario.instructions.domain`, where instructions are an object that has it. Ids need
not be unique: a task is known by its row, the number of its line or, in an array, of the entry, from 1.
"""

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from tau2.data_model.tasks import RewardType, Task

from examples.tau2.episode import environment

_ID_OF_A_ROW = re.compile(r"(.+?\.jsonl?):(\d+):.*", re.DOTALL)
_BETWEEN_ENTRIES = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class TaskRow:
    """A task and what it is played on: the database at `db_path`, None: the domain's own. `place` is where it stands."""

    task: Task
    domain: str
    db_path: str | None
    place: str


def find_task_row(data: dict[str, Any], domain: str) -> TaskRow:
    """The task of a data set's row: `{"tasks_file": path, "row": number}`, or `{"task_id": id}`, of tau2's `domain`, which may
    have a `db_path`. The task is not to be modified; that of a tasks file has the id `<path>:<row>:<id>`.

    Args:
        domain: of tasks that name none.

    Raises:
        LookupError: there is no such task.
        OSError, ValueError: the tasks file cannot be read.
    """
    if "tasks_file" not in data:
        task = environment.find_task(domain, data["task_id"])
        return TaskRow(task, domain, data.get("db_path"), f"task {task.id!r}")
    try:
        return read_tasks_file(data["tasks_file"], domain)[0][data["row"]]
    except KeyError:
        raise LookupError(f"the file has no task in row {data['row']}") from None


def dataset_row(task_id: str) -> dict[str, Any]:
    """The row of a data set whose task has this id."""
    place = _ID_OF_A_ROW.fullmatch(task_id)
    return {"tasks_file": place[1], "row": int(place[2])} if place else {"task_id": task_id}


def task_label(data: dict[str, Any], domain: str) -> str:
    """What a row of a data set is called in messages, whether or not there is such a task."""
    if "tasks_file" in data:
        return f"task {data['tasks_file']}:{data['row']}"
    return f"{domain} task {data.get('task_id')!r}"


@cache
def read_tasks_file(path: str, domain: str) -> tuple[dict[int, TaskRow], dict[int, str]]:
    """The tasks of a file by row, and what is wrong with the rows that are none.

    Args:
        domain: of tasks that name none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is an array that is no JSON.
    """
    with open(path, "rb") as file:
        data = file.read().removeprefix(codecs.BOM_UTF8)
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    rows, problems = {}, {}
    for number, place, entry in _array(data) if data.lstrip().startswith(b"[") else _lines(data):
        try:
            rows[number] = _task_row(entry, folder, domain, place)
        except ValueError as error:
            problems[number] = f"{place}: {error}"
        else:
            rows[number].task.id = f"{path}:{number}:{rows[number].task.id}"
    return rows, problems


def unplayable_tasks(rows: dict[int, TaskRow], solo_mode: bool) -> dict[int, str]:
    """Why tasks cannot be played, by row; reads their databases."""
    used = {(row.domain, row.db_path) for row in rows.values() if row.domain in environment.DOMAINS}
    broken = {database: problem for database in used if (problem := _database_problem(*database))}
    found = {}
    for number, row in rows.items():
        phrases = list(_task_problems(row, solo_mode))
        if (row.domain, row.db_path) in broken:
            phrases.append(f"database {row.db_path}: {broken[row.domain, row.db_path]}")
        if phrases:
            found[number] = f"{row.place}: {'; '.join(phrases)}"
    return found


def tasks_file_digest(path: str, domain: str) -> str:
    """Changes whenever the tasks file or one of its databases does."""
    files = {row.db_path for row in read_tasks_file(path, domain)[0].values()} - {None}
    hashes = []
    for file in (path, *sorted(files)):
        with open(file, "rb") as opened:
            hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def explain_error(error: Exception) -> str:
    """What is wrong with a value, a file, or what is in it."""
    if isinstance(error, ValidationError):
        found = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        return "; ".join(found[:3]) + (f"; {len(found) - 3} more" if len(found) > 3 else "")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).replace("\n", " ")[:200] or type(error).__name__


def _lines(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """(row, place, entry) of each line that is not blank."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, f"line {number}", line


def _array(data: bytes) -> Iterator[tuple[int, str, Any]]:
    """(row, place, entry) of each entry."""
    text = data.decode()
    decoder, line, counted, end = json.JSONDecoder(), 1, 0, text.index("[") + 1
    for number, entry in enumerate(_parsed(text, "no JSON"), 1):
        start = _BETWEEN_ENTRIES.match(text, end).end()
        line, counted = line + text.count("\n", counted, start), start
        end = decoder.raw_decode(text, start)[1]
        yield number, f"task {number}, line {line}", entry


def _task_row(entry: Any, folder: str, domain: str, place: str) -> TaskRow:
    """
    Raises:
        ValueError: what is wrong with the entry.
    """
    entry = _parsed(entry, "no JSON") if isinstance(entry, bytes) else entry
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    if isinstance(entry.get("evaluation_criteria"), str):
        entry["evaluation_criteria"] = _parsed(
            entry["evaluation_criteria"], "evaluation_criteria is a string, but no JSON"
        )
    instructions = (
        entry["user_scenario"].get("instructions")
        if isinstance(entry.get("user_scenario"), dict)
        else None
    )
    if isinstance(instructions, dict):
        domain = instructions.setdefault("domain", domain)
    try:
        task = Task.model_validate(entry)
    except ValidationError as error:
        raise ValueError(f"no tau2 Task: {explain_error(error)}") from None
    return TaskRow(task, domain, _inside(folder, entry.get("db_path")), place)


def _parsed(text: str | bytes, otherwise: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{otherwise}: {explain_error(error)}") from None


def _inside(folder: str, db_path: Any) -> str | None:
    """The real path of a database, which must be under the folder, whatever links are on the way."""
    if db_path is None:
        return None
    if not isinstance(db_path, str) or "\0" in db_path:
        raise ValueError(f"db_path {db_path!r} is no path")
    real = os.path.realpath(os.path.join(folder, db_path))
    if os.path.commonpath([folder, real]) != folder:
        raise ValueError(f"db_path {db_path!r} leads out of the file's folder")
    return real


def _task_problems(row: TaskRow, solo_mode: bool) -> Iterator[str]:
    if row.domain not in environment.DOMAINS:
        yield f"unknown domain {row.domain!r}; it must be one of {', '.join(environment.DOMAINS)}"
        return
    if solo_mode and row.domain not in environment.SOLO_DOMAINS:
        yield f"domain {row.domain} has no solo mode"
    toolkits = environment.toolkits(row.domain)
    state, criteria = row.task.initial_state, row.task.evaluation_criteria
    for action in (criteria and criteria.actions) or []:
        if not any(toolkit and toolkit.has_tool(action.name) for toolkit in toolkits.values()):
            yield f"expects {action.name!r}, which is no tool of {row.domain}"
    for call in [
        *((state and state.initialization_actions) or []),
        *((criteria and criteria.env_assertions) or []),
    ]:
        # tau2 calls whatever attribute of the toolkit has this name
        if call.func_name.startswith("_") or not callable(
            getattr(toolkits[call.env_type], call.func_name, None)
        ):
            yield f"calls {call.func_name!r}, which the {call.env_type}'s toolkit has not"
    if criteria and RewardType.NL_ASSERTION in criteria.reward_basis:
        yield "its reward basis, NL_ASSERTION, needs an LLM judge, which this package has not"


def _database_problem(domain: str, db_path: str | None) -> str | None:
    if db_path is not None and not os.path.isfile(db_path):  # a pipe would be waited for
        return "no such file"
    try:
        environment.databases(domain, db_path)
    except Exception as error:  # parsers have errors of their own
        return explain_error(error)
    return None
