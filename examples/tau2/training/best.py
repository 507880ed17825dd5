"""Keeps the checkpoint of the step whose evaluation was best; AReaL's `saver` keeps the last.

It is in `<checkpoints of the trial>/best`, beside a file that names it. A better one takes its
place when it is complete.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from areal.api.cli_args import SaverConfig
from areal.utils.saver import Saver

from examples.tau2.episode.atomic import atomic_file
from examples.tau2.training.recovery import sync

FOLDER = "best"
RECORD = "best.json"
# the statistics of an evaluation by which steps are compared: how one is shown, and a sign which
# makes the better score the larger one
SCORES = {
    "eval-rollout/episode/reward": ("eval reward {:.3f}", 1),
    "sft-eval/loss/avg": ("eval loss {:.3f}", -1),
}


@dataclass(frozen=True)
class Best:
    """The step with the best score, counted from 1, and its checkpoint's folder within `FOLDER`.

    `statistic` is the name of the score in the statistics.
    """

    step: int
    statistic: str
    score: float
    checkpoint: str

    def __str__(self) -> str:
        form, _ = SCORES[self.statistic]
        return f"step {self.step}, {form.format(self.score)}"


class BestCheckpoint:
    """Saves a checkpoint after each step whose evaluation is better than all before.

    A run that starts anew (`first_step` is 0) forgets the best step of earlier runs of its name.

    Args:
        saver: AReaL's saver of the run; its config has the names of the run.
        save_arguments: `engine`, `tokenizer` and `processor` of `Saver.save`.
        warn: is called with a sentence if a checkpoint cannot be saved. The training goes on.
    """

    def __init__(
        self,
        saver: Saver,
        save_arguments: dict[str, Any],
        first_step: int,
        warn: Callable[[str], object],
    ):
        config = saver.config
        always = replace(config, freq_epochs=None, freq_steps=1, freq_secs=None, mode="sync")
        self._saver = Saver(always, saver.ft_spec)
        self._save_arguments = save_arguments
        self._warn = warn
        self._root = best_folder(config)
        if first_step == 0:
            (self._root / RECORD).unlink(missing_ok=True)

    def keep(self, epoch: int, step: int, global_step: int, statistics: dict[str, float]) -> None:
        """Save the weights after a step, if its evaluation has the best score so far."""
        best = read_best(self._root)
        for statistic, (_, sign) in SCORES.items():
            score = statistics.get(statistic, math.nan)
            # comparisons with NaN are false
            if sign * score > (sign * best.score if best else -math.inf):
                try:
                    self._save(epoch, step, global_step, statistic, score)
                except Exception as error:
                    lost = f"the checkpoint of step {global_step + 1}, the best so far, is lost"
                    self._warn(f"{lost}: {error}")

    def _save(self, epoch: int, step: int, global_step: int, statistic: str, score: float) -> None:
        config = self._saver.config
        names = (config.experiment_name, config.trial_name, config.fileroot)
        folder = Path(Saver.get_model_save_path(*names, epoch, step, global_step, FOLDER))
        former = read_best(self._root)
        if former and former.checkpoint == folder.name:
            # a resumed run has repeated the step: its checkpoint is written over
            (self._root / RECORD).unlink()
        try:
            numbers = {"epoch": epoch, "step": step, "global_step": global_step}
            self._saver.save(**numbers, name=FOLDER, **self._save_arguments)
            for path in folder.rglob("*"):
                sync(path)
            with atomic_file(self._root / RECORD) as file:
                json.dump(asdict(Best(global_step + 1, statistic, score, folder.name)), file)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for other in self._root.glob("epoch*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def best_folder(config: SaverConfig) -> Path:
    """Return the folder with a run's best checkpoint and the file that names it."""
    root = Saver.get_save_root(config.experiment_name, config.trial_name, config.fileroot)
    return Path(root, FOLDER)


def read_best(folder: Path) -> Best | None:
    """Return the best step; None if no step was evaluated, or the file cannot be read."""
    try:
        return Best(**json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
