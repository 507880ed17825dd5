"""A run that was killed goes on from its last whole checkpoint: what AReaL 1.0.4 leaves to be desired there.

AReaL writes each recovery checkpoint over the one before, begins anew if it cannot read it, saves it before the step's
evaluation and statistics, starts over with the learning rate and with the order of the first epoch, and forgets the tasks
that were under way.
"""

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from areal.api import FinetuneSpec, StepInfo
from areal.api.cli_args import RecoverConfig
from areal.utils.recover import RecoverHandler, RecoverInfo
from areal.utils.saver import Saver

KEPT = 2  # checkpoints
WHOLE = "whole.json"  # what a checkpoint consists of; written last
BLOCKS, BLOCK = (
    64,
    2**20,
)  # of a file are read again, and bytes of each: all of a large model would take minutes


class ResumableDataLoader:
    """Batches of a data set, each epoch in an order of its own, as AReaL's data loaders: `for batch in tasks` is one epoch.

    `unfinished(number)` says whether the task that was handed out as the `number`th is still under way: it will be handed
    out again after a resumption.
    """

    def __init__(
        self,
        dataset: Sequence[Any],
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        collate: Callable[[list[Any]], list[Any]] = list,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.collate = collate
        self.unfinished: Callable[[int], bool] = lambda number: False
        self.epoch = self.batch = 0
        self.count = 0  # of tasks handed out, by earlier processes too: the next one's number
        self.under_way: list[int] = []  # numbers of those that will be handed out again
        self._again: list[int] = []
        self._handed_out: dict[int, int] = {}  # rows by number

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        if self._again:
            again, self._again = self._again, []
            yield self._hand_out(again)
        order = list(range(len(self.dataset)))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        while self.batch < len(self):
            self.batch += 1
            yield self._hand_out(
                order[(self.batch - 1) * self.batch_size : self.batch * self.batch_size]
            )
        self.epoch, self.batch = self.epoch + 1, 0

    def _hand_out(self, rows: list[int]) -> list[Any]:
        self._handed_out |= enumerate(rows, self.count)
        self.count += len(rows)
        return self.collate([self.dataset[row] for row in rows])

    def state_dict(self) -> dict[str, Any]:
        self._handed_out = {
            number: row for number, row in self._handed_out.items() if self.unfinished(number)
        }
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "count": self.count,
            "again": [*self._again, *self._handed_out.values()],
            "under_way": list(self._handed_out),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.count = state["epoch"], state["batch"], state["count"]
        self._again, self.under_way = list(state["again"]), list(state["under_way"])


def recovery_is_on(config: RecoverConfig) -> bool:
    """Whether a run is to be resumed; AReaL has two words for no."""
    return config.mode not in ("disabled", "off")


class Checkpoints(RecoverHandler):
    """AReaL's handler with a folder for each checkpoint, `<checkpoints of the trial>/recover/step<N>`; the last two are kept.

    `warn` is told of those that cannot be saved or used.
    """

    def __init__(self, config: RecoverConfig, ft_spec: FinetuneSpec):
        super().__init__(config, ft_spec)
        self.warnings: list[str] = []
        self.warn: Callable[[str], None] = self.warnings.append
        self.root = Path(
            Saver.get_save_root(config.experiment_name, config.trial_name, config.fileroot),
            "recover",
        )

    def dump(self, engine: Any, step_info: StepInfo, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint if one is due. The training is none the worse for one that cannot be saved."""
        if not recovery_is_on(self.config):
            return
        folder = self._folder(step_info.global_step + 1)
        try:
            super().dump(engine, step_info, *args, **kwargs)
            if folder.exists():
                for path in folder.rglob("*"):
                    _sync(path)
                partial = folder / "partial"
                partial.write_text(json.dumps(contents(folder)))
                _sync(partial)
                partial.rename(folder / WHOLE)
        except Exception as error:
            self.warn(f"the checkpoint of step {step_info.global_step + 1} is lost: {error}")
            shutil.rmtree(folder, ignore_errors=True)
        for old in self._folders()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, *args: Any, **kwargs: Any) -> RecoverInfo | None:
        """Go on from the newest checkpoint that is whole. Newer ones are renamed `damaged_step<N>`.

        Raises:
            Exception: whole ones exist, but the engines cannot load them.
        """
        if not recovery_is_on(self.config):
            return None
        info = failure = None
        passed_over = []
        for folder in self._folders():
            try:
                problem = damage(folder)
                if not problem:
                    self._folder(int(folder.name.removeprefix("step")))
                    info = super().load(*args, **kwargs)
                    if info:
                        break
                    raise RuntimeError("AReaL cannot read it")
            except Exception as error:
                problem, failure = str(error), error
            self.warn(f"the checkpoint {folder} is passed over: {problem}")
            passed_over.append(folder)
        if failure and not info:
            raise failure
        for folder in passed_over:
            damaged = folder.with_name(f"damaged_{folder.name}")
            shutil.rmtree(damaged, ignore_errors=True)
            folder.rename(damaged)
        return info

    def _folder(self, step: int) -> Path:
        """The folder of a step's checkpoint; AReaL is told to use it."""
        folder = self.root / f"step{step}"
        self.config = replace(self.config, fileroot=str(folder))
        return folder

    def _folders(self) -> list[Path]:
        """The newest first."""
        return sorted(
            self.root.glob("step*"), key=lambda path: -int(path.name.removeprefix("step"))
        )


def contents(folder: Path) -> dict[str, list]:
    """Size in bytes and digest of each file of a checkpoint, by its path within."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != WHOLE)
    return {str(path.relative_to(folder)): [path.stat().st_size, _digest(path)] for path in files}


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; "" if nothing is."""
    try:
        expected = json.loads((folder / WHOLE).read_text())
    except (OSError, ValueError):
        return "it was not finished"
    found = contents(folder)
    return ", ".join(
        f"{name} is {'damaged' if name in found else 'missing'}"
        for name in expected
        if expected[name] != found.get(name)
    )


def _digest(path: Path) -> str:
    """Of the whole file up to 64 MiB, else of blocks from its beginning to its end."""
    size, digest = path.stat().st_size, hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for block in range(BLOCKS):
            file.seek(max(block * BLOCK, (size - BLOCK) * block // (BLOCKS - 1)))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, whatever happens to the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_later_episodes(generated: Path, step: int, under_way: Collection[int] = ()) -> None:
    """Remove the trajectories of episodes that a run which goes on after `step` will play again.

    `under_way` has the numbers of the groups that will be played again, in which episodes may have been finished before.
    """
    # by weight version: the evaluation after a step belongs to it
    for scope, first in (("train", step), ("eval", step + 1)):
        for folder in generated.glob(f"{scope}/*"):
            if int(folder.name) >= first:
                shutil.rmtree(folder)
    if under_way:
        for path in generated.glob("train/*/*.json"):
            if _group(path) in under_way:
                path.unlink()
                path.with_suffix(".txt").unlink(missing_ok=True)


def _group(trajectory: Path) -> int | None:
    """The last field of a trajectory, of which there are many and long ones: only the end is read."""
    with trajectory.open("rb") as file:
        file.seek(max(0, trajectory.stat().st_size - 100))
        found = re.search(rb'"group": (\d+)\s*}\s*$', file.read())
    return int(found[1]) if found else None
