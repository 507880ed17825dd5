"""Makes a family of tasks of tau2's mock domain for solo mode, with databases of their own.

`python3 examples/tau2/cpu/family.py <folder> --seed 1` writes three tasks files:

- `demonstrations.jsonl` is for imitation. It is the log of a help desk: its tasks expect what the
  staff did. The staff did simple requests right: create a task, change the status of a task, pass
  the user on to a human. Of the requests that need judgement it did one in four right. So a model
  that imitates the log sometimes does the right thing, and reinforcement can make that frequent.
- `train.jsonl` is for reinforcement learning, and expects what is right. Two thirds of its requests
  need judgement: to delete a task (the policy leaves this to human agents), to create a task
  without a title (the policy forbids it), and requests that the user takes back.
- `test.jsonl` is like `train.jsonl`. Its databases, users, titles and pairs of opening and closing
  are in neither of the other files.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

USERS_PER_DATABASE = 6
TASKS_PER_DATABASE = 20

OPENINGS = (
    "Hello.",
    "Hi there.",
    "Good morning.",
    "Hey, quick one.",
    "I need some help.",
    "Thanks for your time.",
)
CLOSINGS = ("Thanks.", "That is all.", "Please hurry.", "Cheers.", "No rush.", "Much appreciated.")
# how users word each type of request
REQUESTS = {
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
    "Answer letter",
    "Call customer",
    "Check invoice",
    "Clean room",
    "File report",
    "Fix machine",
    "Order part",
    "Pack box",
    "Renew contract",
    "Test sample",
)


@dataclass
class TasksFile:
    """A tasks file: its name, how many tasks it has of each request type, how many databases."""

    name: str
    task_counts: dict[str, int]
    database_count: int
    # share of the requests that need judgement for which it expects the right action
    careful_share: float = 1.0


DEMONSTRATIONS = TasksFile(
    "demonstrations",
    {"create": 100, "update": 600, "human": 100, "delete": 240, "untitled": 80, "withdrawn": 80},
    24,
    careful_share=0.25,
)
TRAIN = TasksFile(
    "train",
    {"create": 20, "update": 80, "human": 40, "delete": 160, "untitled": 50, "withdrawn": 50},
    24,
)
TEST = TasksFile(
    "test",
    {"create": 10, "update": 40, "human": 20, "delete": 80, "untitled": 25, "withdrawn": 25},
    8,
)


@dataclass
class Vocabulary:
    """What the databases and tickets of a tasks file are made of."""

    users: list[str]
    titles: list[str]
    # pairs of opening and closing
    frames: list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_family(options.folder, options.seed)


def write_family(folder: Path, seed: int = 1) -> None:
    """Write the three tasks files and their databases to `folder`."""
    rng = random.Random(seed)
    users = [f"user_{number}" for number in range(10, 100)]
    titles = [f"{title} {number}" for title, number in product(TITLES, range(1, 10))]
    frames = list(product(OPENINGS, CLOSINGS))
    learnt_users, test_users = _split(users, rng)
    learnt_titles, test_titles = _split(titles, rng)
    learnt_frames, test_frames = _split(frames, rng)
    learnt = Vocabulary(learnt_users, learnt_titles, learnt_frames)
    unseen = Vocabulary(test_users, test_titles, test_frames)
    _write_tasks_file(folder, DEMONSTRATIONS, learnt, rng)
    _write_tasks_file(folder, TRAIN, learnt, rng)
    _write_tasks_file(folder, TEST, unseen, rng)


def _split(pool: Sequence[T], rng: random.Random) -> tuple[list[T], list[T]]:
    """Split a pool at random into three quarters and the rest."""
    shuffled = rng.sample(pool, len(pool))
    border = len(pool) * 3 // 4
    return shuffled[:border], shuffled[border:]


def _write_tasks_file(
    folder: Path, tasks_file: TasksFile, vocabulary: Vocabulary, rng: random.Random
) -> None:
    (folder / "databases").mkdir(parents=True, exist_ok=True)
    databases = {}
    for number in range(tasks_file.database_count):
        path = f"databases/{tasks_file.name}_{number}.json"
        databases[path] = _database(vocabulary, rng)
        (folder / path).write_text(json.dumps(databases[path], indent=1))
    rows = list(_tasks(tasks_file, databases, vocabulary, rng))
    rng.shuffle(rows)
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / f"{tasks_file.name}.jsonl").write_text("".join(lines))


def _database(vocabulary: Vocabulary, rng: random.Random) -> dict:
    """Return a database of the mock domain."""
    tasks = {}
    for number, title in enumerate(rng.sample(vocabulary.titles, TASKS_PER_DATABASE), 1):
        task_id = f"task_{number}"
        tasks[task_id] = {"task_id": task_id, "title": title, "status": rng.choice(STATUSES)}
    users = {}
    for user in rng.sample(vocabulary.users, USERS_PER_DATABASE):
        users[user] = {"user_id": user, "name": user.replace("_", " ").title(), "tasks": []}
    for task_id in tasks:
        owner = rng.choice(list(users))
        users[owner]["tasks"].append(task_id)
    return {"tasks": tasks, "users": users}


def _tasks(
    tasks_file: TasksFile,
    databases: dict[str, dict],
    vocabulary: Vocabulary,
    rng: random.Random,
) -> Iterator[dict]:
    """Yield tasks as rows of a tasks file; `databases` are by path."""
    for request_type, count in tasks_file.task_counts.items():
        for index in range(count):
            path = rng.choice(list(databases))
            opening, closing = rng.choice(vocabulary.frames)
            request, action, careless = _request(
                request_type, databases[path], vocabulary.titles, rng
            )
            if careless != action and rng.random() >= tasks_file.careful_share:
                action = careless
            yield {
                "id": f"{request_type}_{index}",
                "user_scenario": {
                    "instructions": {
                        "domain": "mock",
                        "reason_for_call": request,
                        "task_instructions": "",
                    }
                },
                "ticket": f"{opening} {request} {closing}",
                # without an initial state, tau2's solo agent takes no task that expects no action
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
    request_type: str, database: dict, titles: list[str], rng: random.Random
) -> tuple[str, dict | None, dict | None]:
    """Return what the ticket asks for, the right action, and that of careless staff.

    An action is None if nothing is to be done.
    """
    user = rng.choice(list(database["users"]))
    task = rng.choice(list(database["tasks"].values()))
    task_id = task["task_id"]
    title = rng.choice(titles)
    status = "completed" if task["status"] == "pending" else "pending"
    template = rng.choice(REQUESTS[request_type])
    request = template.format(user=user, title=title, task=task_id, status=status)
    update = {"name": "update_task_status", "arguments": {"task_id": task_id, "status": status}}
    transfer = {
        "name": "transfer_to_human_agents",
        "arguments": {"summary": "A human is needed."},
        "compare_args": [],
    }
    right = {
        "create": _create(user, title),
        "update": update,
        "human": transfer,
        "delete": transfer,
        "untitled": None,
        "withdrawn": None,
    }
    careless = {"delete": None, "untitled": _create(user, "New task"), "withdrawn": update}
    action = right[request_type]
    return request, action, careless.get(request_type, action)


def _create(user: str, title: str) -> dict:
    return {"name": "create_task", "arguments": {"user_id": user, "title": title}}


if __name__ == "__main__":
    main()
