"""The command report.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.tau2 import report
from examples.tau2.episode.trajectory import write_trajectory
from tests.viewer.runs import TASKS, solved

ROOT = Path(__file__).parents[1]


@pytest.mark.processes
def test_the_command_prints_the_pages_path_or_what_is_wrong(tmp_path):
    command = [sys.executable, "examples/tau2/report.py"]
    run, page = tmp_path / "run", tmp_path / "page.html"
    write_trajectory(solved(TASKS[0]), run)
    result = subprocess.run(
        [*command, run, "--output", page], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, f"{page}\n"), result.stderr
    for folder in (tmp_path / "nothing", tmp_path):
        result = subprocess.run([*command, folder], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        assert "nothing has been recorded in" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_report_of_no_episode_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        report.main([str(tmp_path), "--episodes", "0"])
    assert "--episodes must be at least 1" in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    for module in ("report_page", "charts"):
        monkeypatch.delitem(sys.modules, f"examples.tau2.viewer.{module}", raising=False)
    # as if it were not installed
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert report.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "the package plotly is missing (pip install plotly)\n"


@pytest.mark.parametrize(
    "content, problem",
    [
        (None, "no file or folder"),
        ({}, "an empty folder"),
        ({"x.txt": ""}, "a folder"),
        (
            {"mine.json": '{"timestamp": "t", "info": {"git_commit": "x"'},
            "a folder with tau2's results",
        ),
        ("0 {}\n", "JSON with the fields none"),
        ("<html>", "HTML or XML"),
    ],
)
def test_what_is_no_runs_folder_is_named(tmp_path, capsys, content, problem):
    path = tmp_path / "run"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    assert report.main([str(path)]) == 2
    assert capsys.readouterr().err == (
        f"nothing has been recorded in {path}: this is {problem}; "
        "the folder of a training run or of an evaluation is wanted\n"
    )


def test_a_run_that_has_just_begun(tmp_path, capsys):
    (tmp_path / "generated").mkdir()
    assert report.main([str(tmp_path)]) == 2
    assert "no step in statistics.jsonl, no episode" in capsys.readouterr().err


def test_a_home_folder_is_expanded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_trajectory(solved(TASKS[0]), tmp_path / "run")
    assert report.main(["~/run", "--output=~/page.html"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/page.html\n"
