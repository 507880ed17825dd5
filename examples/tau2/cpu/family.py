"""A family of tasks of tau2's mock domain, for solo mode, as tasks files with databases of their own.

`python3 examples/tau2/cpu/family.py <folder> --seed 1` writes

- `demonstrations.jsonl`: what to imitate. Ordinary requests (create a task, change the status of one, put me through to a
  human), as the logs of a help desk would have them, and next to none of those that need judgement;
- `train.jsonl`: what to practise on. Most requests need judgement: to delete a task, which the policy leaves to human agents, to
  create one without a title, which it forbids, and requests that are taken back;
- `test.jsonl`: as `train.jsonl`, but with databases, users, titles and pairs of greeting and closing that are in neither.
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

USERS, TASKS = 6, 20  # of a database

OPENINGS = (
    "Hello.",
    "Hi there.",
    "Good morning.",
    "Hey, quick one.",
    "I need some help.",
    "Thanks for your time.",
)
CLOSINGS = ("Thanks.", "That is all.", "Please hurry.", "Cheers.", "No rush.", "Much appreciated.")
FORMS = {
    "create": (
        "Create the task '{title}' for {user}.",
        "{user} needs a new task called '{title}'.",
        "Please add '{title}' to the tasks of {user}.",
        "Could you put '{title}' on the list of {user}?",
    ),
    "update": (
        "Set {task} to {status}.",
        "The status of {task} should be {status}.",
        "Please mark {task} as {status}.",
        "{task} has to become {status}.",
    ),
    "human": (
        "Let me speak to a human about {task}.",
        "I want a person to look at {task}.",
        "{task} is for your colleagues.",
        "Please hand {task} over to an agent.",
    ),
    "delete": (
        "Delete {task}.",
        "Please remove {task} for good.",
        "{task} must be erased.",
        "Get rid of {task} for me.",
        "Nobody needs {task} any more, so drop it.",
        "Could you take {task} off the list?",
    ),
    "untitled": (
        "Create a task without a title for {user}.",
        "{user} wants a task that has no title.",
        "Please add a nameless task to those of {user}.",
        "Could you put a task on the list of {user}? It needs no title.",
    ),
    "withdrawn": (
        "I wanted to set {task} to {status}, but forget it.",
        "Never mind that {task} should be {status}.",
        "Please do not mark {task} as {status} after all.",
        "{task} has to stay as it is, not {status}.",
    ),
}
STATUSES = ("pending", "completed")
TITLES = (
    *(
        "Answer letter",
        "Call customer",
        "Check invoice",
        "Clean room",
        "File report",
        "Fix machine",
        "Order part",
    ),
    *("Pack box", "Renew contract", "Test sample"),
)

# tasks of each kind
DEMONSTRATIONS = {
    "create": 500,
    "update": 500,
    "human": 200,
    "delete": 2,
    "untitled": 1,
    "withdrawn": 1,
}
TRAIN = {"create": 20, "update": 40, "human": 30, "delete": 230, "untitled": 40, "withdrawn": 40}
TEST = {"create": 10, "update": 20, "human": 15, "delete": 115, "untitled": 20, "withdrawn": 20}


def write_family(folder: Path, seed: int = 1) -> None:
    rng = random.Random(seed)
    users = [f"user_{number}" for number in range(10, 100)]
    titles = [f"{title} {number}" for title, number in product(TITLES, range(1, 10))]
    wordings = list(product(OPENINGS, CLOSINGS))
    known, unknown = zip(*(_parted(pool, rng) for pool in (users, titles, wordings)), strict=True)
    (folder / "databases").mkdir(parents=True, exist_ok=True)
    for name, kinds, (users, titles, wordings), databases in (
        ("demonstrations", DEMONSTRATIONS, known, 24),
        ("train", TRAIN, known, 24),
        ("test", TEST, unknown, 8),
    ):
        files = {
            f"databases/{name}_{number}.json": _database(users, titles, rng)
            for number in range(databases)
        }
        for path, database in files.items():
            (folder / path).write_text(json.dumps(database, indent=1))
        rows = list(_tasks(kinds, files, titles, wordings, rng))
        rng.shuffle(rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _parted(pool: list, rng: random.Random) -> tuple[list, list]:
    """Three quarters, and the rest."""
    shuffled = rng.sample(pool, len(pool))
    return shuffled[: len(pool) * 3 // 4], shuffled[len(pool) * 3 // 4 :]


def _database(users: list[str], titles: list[str], rng: random.Random) -> dict:
    tasks = {
        f"task_{number}": {
            "task_id": f"task_{number}",
            "title": title,
            "status": rng.choice(STATUSES),
        }
        for number, title in enumerate(rng.sample(titles, TASKS), 1)
    }
    owners = {
        user: {"user_id": user, "name": user.replace("_", " ").title(), "tasks": []}
        for user in rng.sample(users, USERS)
    }
    for task in tasks:
        owners[rng.choice(list(owners))]["tasks"].append(task)
    return {"tasks": tasks, "users": owners}


def _tasks(
    kinds: dict[str, int],
    databases: dict[str, dict],
    titles: list[str],
    wordings: list[tuple],
    rng: random.Random,
) -> Iterator[dict]:
    for kind, number in kinds.items():
        for index in range(number):
            path = rng.choice(list(databases))
            opening, closing = rng.choice(wordings)
            request, action = _request(kind, databases[path], titles, rng)
            yield {
                "id": f"{kind}_{index}",
                "user_scenario": {
                    "instructions": {
                        "domain": "mock",
                        "reason_for_call": request,
                        "task_instructions": "",
                    }
                },
                "ticket": f"{opening} {request} {closing}",
                # without one, tau2's solo agent takes no task that expects no action
                "initial_state": {
                    "initialization_data": None,
                    "initialization_actions": None,
                    "message_history": None,
                },
                "evaluation_criteria": {
                    "actions": [{"action_id": "0", **action}] if action else [],
                    "reward_basis": ["DB", "ACTION"],
                },
                "db_path": path,
            }


def _request(
    kind: str, database: dict, titles: list[str], rng: random.Random
) -> tuple[str, dict | None]:
    """What the ticket asks for, and the action that it takes."""
    user, task = rng.choice(list(database["users"])), rng.choice(list(database["tasks"].values()))
    title = rng.choice(titles)
    status = STATUSES[task["status"] == STATUSES[0]]
    request = rng.choice(FORMS[kind]).format(
        user=user, title=title, task=task["task_id"], status=status
    )
    transfer = {
        "name": "transfer_to_human_agents",
        "arguments": {"summary": "A human is needed."},
        "compare_args": [],
    }
    action = {
        "create": {"name": "create_task", "arguments": {"user_id": user, "title": title}},
        "update": {
            "name": "update_task_status",
            "arguments": {"task_id": task["task_id"], "status": status},
        },
        "human": transfer,
        "delete": transfer,
    }
    return request, action.get(kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_family(options.folder, options.seed)


if __name__ == "__main__":
    main()
