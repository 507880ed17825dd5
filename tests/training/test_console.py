"""What a run prints on the terminal, and what goes to its log."""

import io
import os
import sys
from types import SimpleNamespace

import pytest
from areal.utils.saver import Saver

from examples.tau2.training.console import print_results, redirect_output, report_steps
from examples.tau2.training.progress import StepLog
from examples.tau2.utils import Tau2SFTConfig


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


def trainer(first_step: int, total_steps: int | None) -> SimpleNamespace:
    """A trainer with 3 batches an epoch, 2 epochs, and a warning from before."""
    return SimpleNamespace(
        config=SimpleNamespace(total_train_epochs=2, total_train_steps=total_steps),
        recover_handler=SimpleNamespace(warnings=["a checkpoint is lost"], warn=None),
        first_step=first_step,
        train_dataloader=range(3),
        stats_logger=None,
    )


@pytest.mark.parametrize("total_steps, expected", [(None, 6), (4, 4), (9, 6)])
def test_the_number_of_steps_is_told(tmp_path, total_steps, expected):
    terminal, new = io.StringIO(), trainer(0, total_steps)
    report_steps(new, tmp_path, terminal)
    assert terminal.getvalue() == f"a checkpoint is lost\ntraining {expected} steps ...\n"
    assert isinstance(new.stats_logger, StepLog)


def test_a_resumed_run_tells_where_it_goes_on(tmp_path):
    terminal, resumed = io.StringIO(), trainer(5, None)
    report_steps(resumed, tmp_path, terminal)
    resumed.recover_handler.warn("later")
    lines = terminal.getvalue().splitlines()
    assert lines == [
        "a checkpoint is lost",
        "going on after step 5",
        "training 6 steps ...",
        "later",
    ]


def test_results_that_are_there_are_told(tmp_path):
    config = Tau2SFTConfig(experiment_name="e", trial_name="t")
    config.cluster.fileroot = str(tmp_path)
    checkpoints = []
    saved = Saver.get_model_save_root("e", "t", str(tmp_path))
    for time, name in enumerate(("epoch10", "epoch9")):
        folder = os.path.join(saved, name)
        os.makedirs(folder)
        os.utime(folder, (time, time))
        checkpoints.append(folder)
    run_folder = tmp_path / "run"
    (run_folder / "generated").mkdir(parents=True)
    terminal = io.StringIO()
    print_results(config, run_folder, terminal)
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("there is no report: ")
    assert lines[1:] == [
        "",
        f"trajectories  {run_folder}/generated",
        f"checkpoint    {checkpoints[-1]}",
    ]
