"""Tasks whose gold is known to be wrong are recognized by what they expect."""

import pytest

from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.wrong_gold import wrong_gold
from tests.commands import run
from tests.own_tasks import entry, write
from tests.tau2_bench import data_of_1_0_1, has_old_tasks

# tau2 reads its folder when it is imported, so another folder is read in another process
PROGRAM = """
from examples.tau2 import quiet_tau2
quiet_tau2()
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks import find_task_row
from examples.tau2.episode.judge import needs_judge
from examples.tau2.data.wrong_gold import wrong_gold

for domain in ("airline", "retail", "telecom"):
    for split in ("train", "test", "base"):
        rows = [find_task_row(row, domain) for row in task_rows(domain, f"tau2/{split}")]
        judged = [row for row in rows if needs_judge(row.task)]
        print(domain, split, len(rows), len(judged), wrong_gold(rows) or "none")
"""


def found(domain: str, path: str) -> str:
    return wrong_gold(find_task_row(row, domain) for row in task_rows(domain, path))


@has_old_tasks
@pytest.mark.parametrize(
    "domain, split, ids",
    [
        ("airline", "train", "airline 7 9 14 23 27 33 38"),
        ("airline", "test", "airline 2 29 35 37 44"),
        ("retail", "train", "retail 13 34 91 107"),
        ("retail", "test", "retail 12 18 33"),
        ("telecom", "full", ""),
        ("mock", "base", ""),
    ],
)
def test_the_tasks_of_a_split_are_named(domain, split, ids):
    assert found(domain, f"tau2/{split}") == ids


@has_old_tasks
def test_the_tasks_of_a_file_are_named_by_domain(tmp_path):
    rows = [entry("airline", "7"), entry("retail", "12"), entry("airline", "9", id="x")]
    rows.append(entry("airline", "8"))
    assert found("mock", write(tmp_path, rows)) == "airline 7 x; retail 12"


def test_all_splits_of_1_0_1_are_read_and_hold_no_wrong_gold(tmp_path):
    printed = run("-c", PROGRAM, TAU2_DATA_DIR=data_of_1_0_1(tmp_path)).splitlines()
    assert printed[:9] == [
        "airline train 30 0 none",
        "airline test 20 0 none",
        "airline base 50 0 none",
        "retail train 74 29 none",
        "retail test 40 11 none",
        "retail base 114 40 none",
        "telecom train 74 0 none",
        "telecom test 40 0 none",
        "telecom base 114 0 none",
    ]
