"""Tasks files like inclusionAI/AReaL-tau2-data's: rows of several domains that share databases, ids that come again."""

import json
from pathlib import Path
from typing import Any

from examples.tau2.episode import environment

EMPTY = {
    "airline": {"flights": {}, "users": {}, "reservations": {}},
    "retail": {"products": {}, "users": {}, "orders": {}},
    "telecom": {},
}


def entry(domain: str, task_id: str, **fields: Any) -> dict:
    """A task of tau2's as a row of the set has it: what evaluates it is a string."""
    task = environment.find_task(domain, task_id).model_dump(mode="json", exclude_none=True)
    task["evaluation_criteria"] = json.dumps(task["evaluation_criteria"])
    return {**task, **fields}


def mock_entry(user: str, title: str, **fields: Any) -> dict:
    """A task of mock: a task of this title is to be created for the user."""
    criteria = {
        "actions": [
            {
                "action_id": "0",
                "name": "create_task",
                "arguments": {"user_id": user, "title": title},
            }
        ],
        "reward_basis": ["DB"],
    }
    scenario = {
        "instructions": {
            "domain": "mock",
            "reason_for_call": f"You want {title!r}.",
            "task_instructions": "Be brief.",
        }
    }
    ticket = f"Create the task {title!r} for {user}."
    return {
        "id": "mock_1",
        "user_scenario": scenario,
        "ticket": ticket,
        "evaluation_criteria": json.dumps(criteria),
        **fields,
    }


def mock_db(*users: str) -> dict:
    return {
        "tasks": {},
        "users": {user: {"user_id": user, "name": user.title(), "tasks": []} for user in users},
    }


def write(folder: Path, entries: list, name: str = "tasks.jsonl", **databases: dict) -> str:
    """The path of a tasks file: an entry per line, dicts as JSON and others as they are; databases beside it under `db/`."""
    (folder / "db").mkdir(parents=True, exist_ok=True)
    for database, content in databases.items():
        (folder / "db" / f"{database}.json").write_text(json.dumps(content))
    path = folder / name
    path.write_bytes(
        b"".join((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in entries)
    )
    return str(path)


def public_set(folder: Path) -> str:
    """Rows of three domains, two of them with one id, on three databases."""
    entries = [
        entry("airline", "0", id="airline_1", db_path="db/airline.json"),
        entry("airline", "2", id="airline_1", db_path="db/airline.json"),
        entry("retail", "0", id="retail_1", db_path="db/retail.json"),
        mock_entry("ann", "Lunch", db_path="db/mock.json"),
    ]
    return write(
        folder, entries, mock=mock_db("ann"), airline=EMPTY["airline"], retail=EMPTY["retail"]
    )
