"""Two folders of results, compared by task and trial, and the exact test by hand."""

import json
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from scipy.stats import binomtest

from examples.tau2.evaluation.compare import (
    TaskPairs,
    compare,
    comparison_lines,
    paired_difference,
    sign_flip_p_value,
)

SETTINGS = {"model": "m", "sampling": {"temperature": 0.0}, "data": {"mock": "1", "airline": "2"}}


def results(folder: Path, rewards: dict[tuple[str, str], list[float]], **settings) -> Path:
    """Write the results of an evaluation: the rewards of the trials by domain and task."""
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, **settings}))
    lines = [
        f"{number} {json.dumps({'domain': domain, 'task_id': task_id, 'reward': reward})}\n"
        for (domain, task_id), values in rewards.items()
        for number, reward in enumerate(values)
    ]
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def folders(tmp_path):
    a = {("mock", "m1"): [0.0, 0.0, 1.0], ("mock", "m2"): [1.0, 1.0], ("airline", "1"): [1.0]}
    b = {("mock", "m1"): [1.0, 1.0], ("mock", "m2"): [0.0, 1.0], ("airline", "1"): [1.0]}
    # retail has another task with airline's id
    b[("airline", "2")] = [1.0]
    a[("retail", "2")] = [0.0]
    return results(tmp_path / "a", a), results(
        tmp_path / "b", b, model="n", sampling={"temperature": 0.0, "top_p": 0.9}
    )


def test_trials_that_both_folders_have_are_paired(folders):
    found = compare(*folders)
    assert found.by_task == {
        "m1": TaskPairs(2, 0, 2),
        "m2": TaskPairs(2, 2, 1),
        "1": TaskPairs(1, 1, 1),
    }
    assert list(found.by_task) == ["m1", "m2", "1"]
    assert (found.only_a, found.only_b) == (2, 1)
    assert found.settings == {"model": ("m", "n"), "sampling.top_p": (None, 0.9)}
    assert found.all_tasks.difference.mean == pytest.approx(0.2)
    assert found.by_domain == {
        "airline": paired_difference([TaskPairs(1, 1, 1)]),
        "mock": paired_difference([TaskPairs(2, 0, 2), TaskPairs(2, 2, 1)]),
    }


def test_the_comparison_is_told_line_by_line(folders):
    lines = list(comparison_lines(compare(*folders)))
    assert lines[:3] == [
        "differs: model is m in A, n in B",
        "differs: sampling.top_p is None in A, 0.9 in B",
        "not compared: 2 trials of A and 1 of B, which the other does not have",
    ]
    assert "\nairline: 1, 1 pairs of trials" in lines
    start = lines.index("\nmock: 2, 4 pairs of trials")
    assert lines[start + 1] == "  solved   A 0.500, B 0.750"
    assert lines[start + 2].startswith("  B - A    +0.250  [-")
    assert lines[start + 3 :] == [
        "  p-value  1 (exact sign-flip test over tasks)",
        "\nthe tasks that changed most: trials, solved by A, by B",
        "    2    0    2  m1",
        "    2    2    1  m2",
        "\n2 of 3 tasks changed",
    ]


def test_a_comparison_can_be_written_as_json(folders):
    written = json.loads(json.dumps(compare(*folders).to_json()))
    assert written["by_task"]["m1"] == {"pairs": 2, "solved_a": 0, "solved_b": 2}
    assert written["by_domain"]["mock"]["difference"]["mean"] == 0.25


@pytest.mark.parametrize("changes", [[], [0, 0], [1], [3, -1, 0, 2], [2, 2, 2, -1], [4] * 10])
def test_the_p_value_is_that_of_all_choices_of_signs(changes):
    sums = [
        abs(sum(sign * change for sign, change in zip(signs, changes, strict=True)))
        for signs in product((1, -1), repeat=len(changes))
    ]
    share = sum(value >= abs(sum(changes)) for value in sums) / len(sums)
    assert sign_flip_p_value(changes) == pytest.approx(share)


def test_with_a_trial_per_task_the_test_is_mcnemars():
    changes = [1] * 40 + [-1] * 20 + [0] * 54
    assert sign_flip_p_value(changes) == pytest.approx(binomtest(20, 60).pvalue)


def test_equal_results_differ_by_nothing():
    equal = paired_difference([TaskPairs(4, 2, 2)] * 20)
    difference = equal.difference
    assert (difference.mean, difference.low, difference.high, equal.p_value) == (0, 0, 0, 1)


def test_a_p_value_below_a_twentieth_comes_with_an_interval_without_0():
    better = paired_difference([TaskPairs(4, 1, 3)] * 12 + [TaskPairs(4, 2, 1)] * 3)
    assert better.p_value < 0.05 and 0 < better.difference.low < better.difference.high
    worse = paired_difference([TaskPairs(4, 3, 1)] * 12 + [TaskPairs(4, 1, 2)] * 3)
    assert worse.p_value == better.p_value
    assert worse.difference.mean == -better.difference.mean


def test_results_of_other_data_or_tasks_are_refused(tmp_path):
    task = {("mock", "m1"): [1.0]}
    a = results(tmp_path / "a", task)
    other_data = results(tmp_path / "data", task, data={"mock": "3"})
    with pytest.raises(ValueError, match=r"different tasks or data of mock \(digest 1 in A, 3"):
        compare(a, other_data)
    other_task = results(tmp_path / "task", {("mock", "m2"): [1.0]})
    with pytest.raises(ValueError, match="no trial of a task in common"):
        compare(a, other_task)


def test_what_is_no_folder_of_results_is_refused(tmp_path):
    a = results(tmp_path / "a", {("mock", "m1"): [1.0]})
    with pytest.raises(ValueError, match="has no settings.json; name the folder"):
        compare(a, tmp_path)
    # the last line is half-written
    with (a / "episodes.jsonl").open("a") as file:
        file.write('1 {"domain": "mock", "task')
    assert compare(a, a).all_tasks.pairs == 1
    with (a / "episodes.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="line 2 of .*/episodes.jsonl is no trial"):
        compare(a, a)
    (a / "settings.json").write_text("[1]")
    with pytest.raises(ValueError, match="settings.json cannot be read"):
        compare(a, a)
    (a / "episodes.jsonl").unlink()
    with pytest.raises(ValueError, match="has no episodes.jsonl; name the folder"):
        compare(a, a)
