"""Prints what the user of a run reads on the terminal, and keeps AReaL's own output in a file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from areal.api.cli_args import SaverConfig
from areal.utils.saver import Saver

from examples.tau2.episode.failures import missing_package
from examples.tau2.training.best import BestCheckpoint, best_folder, read_best
from examples.tau2.training.progress import StepLog, show
from examples.tau2.training.trainer import Tau2PPOTrainer, Tau2SFTTrainer
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

# the lines of the log, and those of the error's message, that are shown when a run fails
LOG_TAIL = 30
MESSAGE_LINES = 4


@contextmanager
def redirect_output(log: Path | None) -> Iterator[TextIO]:
    """Send the output of this process and its children to a file, and yield the terminal.

    If the block fails, the last lines of the file are printed on the terminal. With None, the
    output stays where it is.
    """
    if log is None:
        yield sys.stdout
        return
    terminal = os.fdopen(os.dup(1), "w", buffering=1)
    print(f"AReaL's own output: {log}", file=terminal)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield terminal
    except Exception as error:
        with suppress(OSError):
            sys.stdout.flush()
        lines = log.read_text(errors="replace").splitlines(keepends=True)
        # an error of AReaL's can have a whole log in its message
        message = "\n".join(str(error).splitlines()[:MESSAGE_LINES])
        tail = "".join(lines[-LOG_TAIL:])
        print(f"{tail}\nThe run failed: {message}\nMore in {log}", file=terminal)
        raise


def report_steps(trainer: Tau2PPOTrainer | Tau2SFTTrainer, folder: Path, terminal: TextIO) -> None:
    """Let the trainer report each step, on the terminal and in the folder's `statistics.jsonl`.

    After each evaluation that is the best so far, a checkpoint is kept.
    """
    config, checkpoints = trainer.config, trainer.recover_handler
    checkpoints.warn = lambda text: show(text, terminal)
    for text in checkpoints.warnings:
        checkpoints.warn(text)
    if trainer.first_step:
        show(f"going on after step {trainer.first_step}", terminal)
    steps = config.total_train_epochs * len(trainer.train_dataloader)
    if config.total_train_steps:
        steps = min(steps, config.total_train_steps)
    statistics = folder / "statistics.jsonl"
    best = BestCheckpoint(
        trainer.saver,
        {"engine": trainer.actor, "tokenizer": trainer.tokenizer, "processor": trainer.processor},
        trainer.first_step,
        checkpoints.warn,
    )
    trainer.stats_logger = StepLog(trainer.stats_logger, statistics, steps, terminal, best.keep)
    show(f"training {steps} steps ...", terminal)


def print_results(config: Tau2PPOConfig | Tau2SFTConfig, folder: Path, terminal: TextIO) -> None:
    """Print where the results of a run are, and write its report.

    The checkpoints that it prints are the last one and the one whose evaluation was best. Another
    run can start from them: `actor.path` takes such a folder. The run has succeeded, so no failure
    of the report is raised.
    """
    results = {
        "trajectories": folder / "generated",
        "statistics": folder / "statistics.jsonl",
        "checkpoint": _last_checkpoint(config.saver),
    }
    show("", terminal)
    for title, path in results.items():
        if path and path.exists():
            show(f"{title:12}  {path}", terminal)
    kept = best_folder(config.saver)
    if best := read_best(kept):
        show(f"{'best':12}  {kept / best.checkpoint} ({best})", terminal)
    try:
        from examples.tau2.viewer.report_page import write_report

        write_report(folder)
        show(f"{'report':12}  {folder / 'report.html'}", terminal)
    except Exception as error:
        command = f"python3 examples/tau2/report.py {folder}"
        show(f"There is no report: {_cause(error)}. To write it: {command}", terminal)


def _cause(error: Exception) -> str:
    """Say what went wrong, and which package to install if one is missing."""
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    # a MemoryError has no message
    return str(error) or type(error).__name__


def _last_checkpoint(config: SaverConfig) -> Path | None:
    """Return the folder of the checkpoint that was saved last; None if there is none."""
    saved = Path(
        Saver.get_model_save_root(config.experiment_name, config.trial_name, config.fileroot)
    )
    checkpoints = sorted(saved.glob("epoch*"), key=lambda path: path.stat().st_mtime)
    return checkpoints[-1] if checkpoints else None
