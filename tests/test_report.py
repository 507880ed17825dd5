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
    assert capsys.readouterr().err == "report.py needs the package plotly: pip install plotly\n"
