"""What a run prints on the terminal, and what goes to its log."""

import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from areal.api import FinetuneSpec
from areal.api.cli_args import SaverConfig
from areal.utils.saver import Saver

from examples.tau2.episode.trajectory import write_trajectory
from examples.tau2.training.best import best_folder
from examples.tau2.training.console import print_results, redirect_output, report_steps
from examples.tau2.training.progress import StepLog
from examples.tau2.utils import Tau2SFTConfig
from examples.tau2.viewer import report_page
from tests.viewer.runs import TASKS, solved

REWARD = "eval-rollout/episode/reward"


@pytest.fixture
def output_is_restored():
    """`redirect_output` is for the rest of a process; a test has to undo it."""
    saved = {number: os.dup(number) for number in (1, 2)}
    yield
    for number, copy in saved.items():
        os.dup2(copy, number)
        os.close(copy)


def test_without_a_log_the_output_stays_where_it_is():
    with redirect_output(None) as terminal:
        assert terminal is sys.stdout


def test_the_output_goes_to_the_log(capfd, output_is_restored, tmp_path):
    log = tmp_path / "console.log"
    with redirect_output(log) as terminal:
        os.write(1, b"from a worker\n")
        print("a step", file=terminal)
    terminal.close()
    assert log.read_text() == "from a worker\n"
    assert capfd.readouterr().out == f"AReaL's own output: {log}\na step\n"


def test_a_failure_shows_the_end_of_the_log(capfd, output_is_restored, tmp_path):
    log = tmp_path / "console.log"
    with pytest.raises(RuntimeError), redirect_output(log) as terminal:
        os.write(2, "".join(f"line {number}\n" for number in range(1, 41)).encode())
        raise RuntimeError("one\ntwo\nthree\nfour\nfive")
    terminal.close()
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "line 11" and lines[30] == "line 40"
    end = ["The run failed: one", "two", "three", "four", f"More in {log}"]
    assert [line for line in lines[31:] if line] == end


def saver_config(folder: Path) -> SaverConfig:
    return SaverConfig(experiment_name="e", trial_name="t", fileroot=str(folder))


def trainer(folder: Path, first_step: int, total_steps: int | None) -> SimpleNamespace:
    """A trainer with 3 batches an epoch, 2 epochs, and a warning from before."""
    return SimpleNamespace(
        config=SimpleNamespace(total_train_epochs=2, total_train_steps=total_steps),
        recover_handler=SimpleNamespace(warnings=["a checkpoint is lost"], warn=None),
        first_step=first_step,
        train_dataloader=range(3),
        stats_logger=None,
        saver=Saver(saver_config(folder), FinetuneSpec(2, 6, 2)),
        actor=None,
        tokenizer=None,
        processor=None,
    )


@pytest.mark.parametrize("total_steps, expected", [(None, 6), (4, 4), (9, 6)])
def test_the_number_of_steps_is_told(tmp_path, total_steps, expected):
    terminal, new = io.StringIO(), trainer(tmp_path, 0, total_steps)
    report_steps(new, tmp_path, terminal)
    assert terminal.getvalue() == f"a checkpoint is lost\ntraining {expected} steps ...\n"
    assert isinstance(new.stats_logger, StepLog)


def test_a_resumed_run_tells_where_it_goes_on(tmp_path):
    terminal, resumed = io.StringIO(), trainer(tmp_path, 5, None)
    report_steps(resumed, tmp_path, terminal)
    resumed.recover_handler.warn("later")
    lines = terminal.getvalue().splitlines()
    assert lines == [
        "a checkpoint is lost",
        "going on after step 5",
        "training 6 steps ...",
        "later",
    ]


def test_results_that_are_there_are_told(tmp_path, monkeypatch):
    config = Tau2SFTConfig(saver=saver_config(tmp_path))
    checkpoints = []
    saved = Saver.get_model_save_root("e", "t", str(tmp_path))
    for time, name in enumerate(("epoch10", "epoch9")):
        folder = os.path.join(saved, name)
        os.makedirs(folder)
        os.utime(folder, (time, time))
        checkpoints.append(folder)
    run_folder = tmp_path / "run"
    (run_folder / "generated").mkdir(parents=True)
    *results, report = printed_results(config, run_folder)
    assert results == [
        "",
        f"trajectories  {run_folder}/generated",
        f"checkpoint    {checkpoints[-1]}",
    ]
    assert report.startswith("There is no report: nothing has been recorded in ")
    kept = best_folder(config.saver)
    kept.mkdir()
    (kept / "best.json").write_text(
        f'{{"step": 6, "statistic": "{REWARD}", "score": 0.5, "checkpoint": "epoch0"}}'
    )
    best = printed_results(config, run_folder)[-2]
    assert best == f"best          {kept}/epoch0 (step 6, eval reward 0.500)"
    write_trajectory(solved(TASKS[0]), run_folder / "generated")
    assert printed_results(config, run_folder)[-1] == f"report        {run_folder}/report.html"
    monkeypatch.chdir(tmp_path)
    assert printed_results(config, Path("run"))[-1] == "report        run/report.html"


def printed_results(config: Tau2SFTConfig, folder: Path) -> list[str]:
    terminal = io.StringIO()
    print_results(config, folder, terminal)
    return terminal.getvalue().splitlines()


def test_a_run_is_done_without_the_package_of_the_report(tmp_path, monkeypatch):
    config = Tau2SFTConfig(saver=saver_config(tmp_path))
    for module in ("report_page", "charts"):
        monkeypatch.delitem(sys.modules, f"examples.tau2.viewer.{module}", raising=False)
    # as if it were not installed
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert printed_results(config, tmp_path)[-1] == (
        "There is no report: the package plotly is missing (pip install plotly). "
        f"To write it: python3 examples/tau2/report.py {tmp_path}"
    )


@pytest.mark.parametrize("error", [MemoryError(), KeyError("step"), RecursionError("too deep")])
def test_a_run_is_done_whatever_becomes_of_its_report(tmp_path, monkeypatch, error):
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr(report_page, "write_report", fail)
    config = Tau2SFTConfig(saver=saver_config(tmp_path))
    last = printed_results(config, tmp_path)[-1]
    assert last.startswith("There is no report: ") and " report: ." not in last


def test_a_terminal_that_cannot_be_written_ends_no_run(tmp_path):
    config = Tau2SFTConfig(saver=saver_config(tmp_path))
    full_disk = io.TextIOWrapper(FullDisk(), write_through=True)
    report_steps(trainer(tmp_path, 5, None), tmp_path, full_disk)
    print_results(config, tmp_path, full_disk)


class FullDisk(io.RawIOBase):
    """A file on a disk that is full."""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
