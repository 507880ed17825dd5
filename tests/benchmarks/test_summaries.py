"""The benchmark of summaries and reports."""

import json
import subprocess

import pytest

from benchmarks.summaries import finished_evaluation, run_command, table_lines


def test_the_commands_sum_up_and_report_a_finished_evaluation(tmp_path):
    options = finished_evaluation(tmp_path, tasks=3, trials=2)
    for command, arguments in (("evaluate.py", options), ("report.py", [str(tmp_path)])):
        seconds, megabytes = run_command(command, *arguments)
        assert seconds > 0 and megabytes > 10
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["tasks"], summary["episodes"], summary["missing"]) == (3, 6, [])
    assert 0 < summary["reward"] < 1
    assert (tmp_path / "report.html").exists()


def test_a_command_that_fails_is_not_measured(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        run_command("report.py", str(tmp_path))


def test_a_line_has_the_values_by_size_and_their_ratio():
    lines = [line.split() for line in table_lines([10, 1000], {"s": [2.0, 5.0]})]
    assert lines == [["episodes", "10", "1,000", "ratio"], ["s", "2.0", "5.0", "2.5"]]
