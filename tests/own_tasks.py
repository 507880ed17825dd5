"""Tasks files like inclusionAI/AReaL-tau2-data's: several domains, shared databases, equal ids."""

import json
from pathlib import Path
from typing import Any

from examples.tau2.data.tasks import unplayable_tasks
from examples.tau2.data.tasks_file import read_tasks_file
from examples.tau2.episode import environment

EMPTY = {
    "airline": {"flights": {}, "users": {}, "reservations": {}},
    "retail": {"products": {}, "users": {}, "orders": {}},
    "telecom": {},
}


def entry(domain: str, task_id: str, **fields: Any) -> dict:
    """Make a row of a tau2 task, like those of the public set: its criteria are a string."""
    task = environment.find_task(domain, task_id).model_dump(mode="json", exclude_none=True)
    task["evaluation_criteria"] = json.dumps(task["evaluation_criteria"])
    return {**task, **fields}


def mock_entry(user: str, title: str, **fields: Any) -> dict:
    """Make a row of a task of mock: the agent is to create a task of this title for the user."""
    action = {
        "action_id": "0",
        "name": "create_task",
        "arguments": {"user_id": user, "title": title},
    }
    criteria = {"actions": [action], "reward_basis": ["DB"]}
    instructions = {
        "domain": "mock",
        "reason_for_call": f"You want {title!r}.",
        "task_instructions": "Be brief.",
    }
    return {
        "id": "mock_1",
        "user_scenario": {"instructions": instructions},
        "ticket": f"Create the task {title!r} for {user}.",
        "evaluation_criteria": json.dumps(criteria),
        **fields,
    }


def mock_db(*users: str) -> dict:
    """Make a database of mock with these users and no tasks."""
    return {
        "tasks": {},
        "users": {user: {"user_id": user, "name": user.title(), "tasks": []} for user in users},
    }


def write(folder: Path, entries: list, name: str = "tasks.jsonl", **databases: dict) -> str:
    """Write a tasks file with an entry per line, and databases under `db/`; returns its path.

    An entry of type bytes is written as it is, any other as JSON.
    """
    (folder / "db").mkdir(parents=True, exist_ok=True)
    for database, content in databases.items():
        (folder / "db" / f"{database}.json").write_text(json.dumps(content))
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in entries]
    path = folder / name
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def public_set(folder: Path) -> str:
    """Write rows of three domains, two of them with one id, on three databases."""
    entries = [
        entry("airline", "0", id="airline_1", db_path="db/airline.json"),
        entry("airline", "8", id="airline_1", db_path="db/airline.json"),
        entry("retail", "0", id="retail_1", db_path="db/retail.json"),
        mock_entry("ann", "Lunch", db_path="db/mock.json"),
    ]
    return write(
        folder, entries, mock=mock_db("ann"), airline=EMPTY["airline"], retail=EMPTY["retail"]
    )


def problem_of(path: str, number: int = 1, domain: str = "mock", solo_mode: bool = False) -> str:
    """Say what is wrong with a row of a tasks file; "" if nothing is."""
    rows, unreadable = read_tasks_file(path, domain)
    problems = unreadable | unplayable_tasks(rows, solo_mode)
    return problems.get(number, "")
