"""From a command line to a run: the plan is checked, the output sorted, and every process ended, for `train.py` and `sft.py`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from examples.tau2 import quiet_tau2
from examples.tau2.training.supervisor import supervise


class ConfigError(ValueError):
    """A config that cannot be run; `problems` has a sentence for each thing to mend."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class Job:
    """A plan without problems: what to tell its user, how many seconds it may take (None: any), and what runs it."""

    summary: str
    timeout: float | None
    run: Callable[[], None]


def launch(argv: list[str], doc: str, check: Callable[[list[str]], Job]) -> int:
    """Run the job that `check` makes of the options, or, with `--check`, only print its summary.

    `check` raises `ConfigError`. Exit status: 0 done, 2 nothing was launched because of the plan, 124 the run's deadline
    passed, else a failure. To be called before threads exist.
    """
    # AReaL starts its workers with a bare `python3`: let it be this one
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return supervise(lambda set_deadline: run(argv, doc, check, set_deadline))


def run(
    argv: list[str],
    doc: str,
    check: Callable[[list[str]], Job],
    set_deadline: Callable[[float], None],
) -> int:
    """The job in this process; `set_deadline` is told its timeout in seconds."""
    if {"-h", "--help"} & set(argv):
        print(doc)
        return 0
    quiet_tau2()
    try:
        job = check([as_hydra_override(argument) for argument in argv if argument != "--check"])
    except ConfigError as error:
        print(
            "Nothing was launched:\n" + "\n".join(f"  - {problem}" for problem in error.problems),
            file=sys.stderr,
        )
        return 2
    print(job.summary, flush=True)
    if "--check" not in argv:
        if job.timeout:
            set_deadline(job.timeout)
        job.run()
    return 0


def as_hydra_override(argument: str) -> str:
    """Hydra refuses to override a field that the YAML does not name, and list items by `[0]`: spell it its way."""
    name, equals, value = argument.partition("=")
    if not equals or argument.startswith(("-", "+", "~")):
        return argument
    return f"++{name.replace('[', '.').replace(']', '')}={value}"


def start(argv: list[str], kind: type) -> tuple[Any, Path]:
    """The config of a run as AReaL loads it, which leaves a copy, and the folder of the run's logs."""
    from areal.api.cli_args import load_expr_config
    from areal.utils.stats_logger import StatsLogger

    key = os.environ.pop("SWANLAB_API_KEY", None)  # AReaL would write it into the config
    config, _ = load_expr_config(argv, kind)
    if key:
        os.environ["SWANLAB_API_KEY"] = key
    if (
        config.stats_logger.wandb.mode != "disabled"
    ):  # AReaL has wandb log in before it tells it the mode
        os.environ["WANDB_MODE"] = config.stats_logger.wandb.mode
    Path(config.cluster.name_resolve.nfs_record_root).mkdir(
        parents=True, exist_ok=True
    )  # AReaL expects it
    return config, Path(StatsLogger.get_log_path(config.stats_logger))


@contextmanager
def console(log: Path | None) -> Iterator[TextIO]:
    """Send all that this process and its children print to the file `log`, and yield the terminal; without a file, nothing
    changes. A failure ends with the last lines of the file."""
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
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-30:])
        said = "\n".join(
            str(error).splitlines()[:4]
        )  # AReaL's errors can have a log of their own in them
        print(f"{tail}\nThe run failed: {said}\nMore in {log}", file=terminal)
        raise


def watch(trainer: Any, folder: Path, terminal: TextIO) -> None:
    """Have the trainer report each of its steps, on the terminal and in the folder's `statistics.jsonl`."""
    from examples.tau2.training.progress import StepLog

    config, handler = trainer.config, trainer.recover_handler
    handler.warn = lambda text: print(text, file=terminal)
    for text in handler.warnings:
        handler.warn(text)
    if trainer.first_step:
        print(f"going on after step {trainer.first_step}", file=terminal)
    steps = config.total_train_epochs * len(trainer.train_dataloader)
    steps = min(steps, config.total_train_steps or steps)
    trainer.stats_logger = StepLog(
        trainer.stats_logger, folder / "statistics.jsonl", steps, terminal
    )
    print(f"training {steps} steps ...", file=terminal)


def tell_results(config: Any, folder: Path, terminal: TextIO) -> None:
    """Write the report of a run, and print where it has left what: of the checkpoints the last, which `actor.path` takes."""
    from areal.utils.saver import Saver

    from examples.tau2 import report

    try:
        report.write(folder)
    except (OSError, ValueError) as error:  # the run is good
        print(f"there is no report: {error}", file=terminal)

    saved = Path(
        Saver.get_model_save_root(
            config.experiment_name, config.trial_name, config.cluster.fileroot
        )
    )
    results = {
        "trajectories": [folder / "generated"],
        "statistics": [folder / "statistics.jsonl"],
        "checkpoint": sorted(saved.glob("epoch*"), key=lambda path: path.stat().st_mtime)[-1:],
        "report": [folder / "report.html"],
    }
    lines = (
        f"{name:12}  {path}" for name, paths in results.items() for path in paths if path.exists()
    )
    print("", *lines, sep="\n", file=terminal)
