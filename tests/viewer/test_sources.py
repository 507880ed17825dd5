"""Where the records of a run are found, and which of the episodes are shown."""

from itertools import pairwise
from pathlib import Path

from examples.tau2.viewer.sources import (
    EpisodeSource,
    EvaluationSummary,
    find_episodes,
    read_statistics,
    read_summary,
    thin_out,
)
from tests.viewer.runs import TASKS


def test_episodes_are_found_in_the_order_of_the_weights_and_groups_stay_together(training_run):
    groups = [source.group for source in find_episodes(training_run)]
    assert groups == sorted(groups) and len(groups) == 13 and groups[-1] == (2, "eval", TASKS[0])
    # the output_dir of a workflow without AReaL
    assert find_episodes(training_run / "generated") == find_episodes(training_run)


def test_trials_of_an_evaluation_are_found_by_task_and_a_half_written_one_is_not(evaluation):
    found = find_episodes(evaluation)
    assert len(found) == 5000
    assert [source.trial for source in found] == [*range(2500), *range(2500)]
    assert found[0].read().task_id == TASKS[0] and found[-1].read().task_id == TASKS[1]


def test_a_long_run_is_thinned_out_evenly_by_whole_groups():
    found = [
        EpisodeSource((step, "train", task), Path(task))
        for step in range(100)
        for task in "ab"
        for _ in range(8)
    ]
    chosen = thin_out(found, 400)
    steps = [source.group[0] for source in chosen]
    assert 360 <= len(chosen) <= 400 and len(chosen) % 8 == 0
    assert min(steps) < 5 and max(steps) > 95 and max(b - a for a, b in pairwise(steps)) <= 4
    assert thin_out(found, 5000) == found
    assert thin_out(found, 1) == found[:8]


def test_statistics_have_numbers_only_and_lines_that_are_no_records_are_named(tmp_path):
    path = tmp_path / "statistics.jsonl"
    assert read_statistics(path) == ([], [])
    path.write_text('{"step": 1, "a": 0.5, "b": "text"}\n\njunk\n[]\n{}\n{"step": 2, "half')
    records, unreadable = read_statistics(path)
    assert records == [{"step": 1, "a": 0.5}]
    for line, message in zip((3, 4, 5), unreadable, strict=True):
        assert message.startswith(f"{path}, line {line}: ")


def test_a_summary_counts_if_it_is_about_the_same_episodes(evaluation):
    summary = read_summary(evaluation / "summary.json", 5000)
    assert summary.missing == 1
    assert [rate.name for rate in summary.pass_rates] == ["pass^1", "pass^2", "pass@2"]
    assert read_summary(evaluation / "summary.json", 4999) == EvaluationSummary()


def test_without_a_summary_there_are_no_pass_rates(tmp_path):
    assert read_summary(tmp_path / "summary.json", 1) == EvaluationSummary()
    (tmp_path / "summary.json").write_text("{")
    assert read_summary(tmp_path / "summary.json", 1) == EvaluationSummary()
