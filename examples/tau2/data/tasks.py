"""Finds the tasks that the rows of data sets name, and checks whether they can be played.

A row is `{"task_id": id}` for a task of tau2's, or `{"tasks_file": path, "row": number}`.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from tau2.data_model.tasks import EnvFunctionCall, Task

from examples.tau2.data.tasks_file import TaskRow, explain_error, read_tasks_file
from examples.tau2.episode import environment
from examples.tau2.episode.tau2_data import tau2_source

# newer versions of tau2 have these tools, which only read: any episode can do without them
NEWER_TOOLS = ("get_item_details",)

_TASKS_FILE_ID = re.compile(r"(.+?\.jsonl?):(\d+):(.*)", re.DOTALL)


def find_task_row(data: dict[str, Any], domain: str) -> TaskRow:
    """Find the task that a row of a data set names. The task must not be modified.

    The row of a task of tau2's may also have a `db_path`. A task of a tasks file has the id
    `<path>:<row>:<id>`.

    Args:
        domain: the domain of tau2's tasks, and of those tasks of a file that name none.

    Raises:
        LookupError: there is no such task.
        OSError, ValueError: the tasks file cannot be read.
    """
    if "tasks_file" not in data:
        task = environment.find_task(domain, data["task_id"])
        return TaskRow(task, domain, data.get("db_path"), f"task {task.id!r}")
    rows, _ = read_tasks_file(data["tasks_file"], domain)
    if data["row"] not in rows:
        raise LookupError(f"the file has no task in row {data['row']}")
    return rows[data["row"]]


def dataset_row(task_id: str) -> dict[str, Any]:
    """Make the row of a data set that names the task of this id."""
    match = _TASKS_FILE_ID.fullmatch(task_id)
    if match is None:
        return {"task_id": task_id}
    return {"tasks_file": match[1], "row": int(match[2])}


def own_id(task: Task) -> str:
    """Return the id that a task has in its file or in tau2's data."""
    match = _TASKS_FILE_ID.fullmatch(task.id)
    return match[3] if match else task.id


def is_tool(domain: str, name: str) -> bool:
    """Whether the agent or the user has a tool of this name."""
    toolkits = environment.toolkits(domain).values()
    return any(toolkit is not None and toolkit.has_tool(name) for toolkit in toolkits)


def task_label(data: dict[str, Any], domain: str) -> str:
    """Name the task of a row in messages, even if there is no such task."""
    if "tasks_file" in data:
        return f"task {data['tasks_file']}:{data['row']}"
    return f"{domain} task {data.get('task_id')!r}"


def unplayable_tasks(rows: dict[int, TaskRow], solo_mode: bool) -> dict[int, str]:
    """Read the databases of the tasks, and say by row why some tasks cannot be played."""
    databases = {
        (row.domain, row.db_path) for row in rows.values() if row.domain in environment.DOMAINS
    }
    broken = {}
    for domain, db_path in databases:
        problem = _database_problem(domain, db_path)
        if problem:
            broken[domain, db_path] = problem
    unplayable = {}
    for number, row in rows.items():
        problems = list(_task_problems(row, solo_mode))
        if (row.domain, row.db_path) in broken:
            problems.append(f"database {row.db_path}: {broken[row.domain, row.db_path]}")
        if problems:
            unplayable[number] = f"{row.place}: {'; '.join(problems)}"
    return unplayable


def _task_problems(row: TaskRow, solo_mode: bool) -> Iterator[str]:
    domain = row.domain
    if domain not in environment.DOMAINS:
        yield f"unknown domain {domain!r}; it must be one of {environment.DOMAIN_CHOICES}"
        return
    if solo_mode and domain not in environment.SOLO_DOMAINS:
        yield f"domain {domain} has no solo mode"
    lacking = list(dict.fromkeys(_lacking(row)))
    if lacking:
        yield (
            f"needs {', '.join(lacking)}, which {domain} does not have in {tau2_source(()).name}; "
            "correct the task, or leave it out by its id (exclude)"
        )


def _lacking(row: TaskRow) -> Iterator[str]:
    """Name the tools and functions of the task that the domain's toolkits lack."""
    for action in environment.expected_actions(row.task):
        if action.name not in NEWER_TOOLS and not is_tool(row.domain, action.name):
            yield f"the tool {action.name!r}"
    toolkits = environment.toolkits(row.domain)
    for call in _function_calls(row):
        # tau2 calls any attribute of the toolkit that has this name
        function = getattr(toolkits[call.env_type], call.func_name, None)
        if call.func_name.startswith("_") or not callable(function):
            yield f"the {call.env_type}'s function {call.func_name!r}"


def _function_calls(row: TaskRow) -> list[EnvFunctionCall]:
    """List the calls by which tau2 prepares the environment of a task, and checks it at the end."""
    state, criteria = row.task.initial_state, row.task.evaluation_criteria
    calls: list[EnvFunctionCall] = []
    if state and state.initialization_actions:
        calls += state.initialization_actions
    if criteria and criteria.env_assertions:
        calls += criteria.env_assertions
    return calls


def _database_problem(domain: str, db_path: str | None) -> str | None:
    # only a file is opened: a pipe would wait for a writer
    if db_path is not None and not os.path.isfile(db_path):
        return "no such file"
    try:
        environment.databases(domain, db_path)
    except Exception as error:
        # each parser raises errors of its own
        return explain_error(error)
    return None
