"""Resume a killed run from its last whole checkpoint.

AReaL 1.0.4 writes each recovery checkpoint over the one before, and starts anew if it cannot read
the checkpoint.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from areal.api import FinetuneSpec, StepInfo
from areal.api.cli_args import RecoverConfig
from areal.utils.recover import RecoverHandler, RecoverInfo
from areal.utils.saver import Saver

from examples.tau2.episode.atomic import atomic_file

KEPT_CHECKPOINTS = 2
# lists the files of a checkpoint, and is written last: a checkpoint that has it is whole
FILE_LIST = "whole.json"
# A digest covers this many blocks of so many bytes, from a file's first to its last byte. To read
# all of a large model again would take minutes.
DIGEST_BLOCKS = 64
BLOCK_SIZE = 2**20


def recovery_is_on(config: RecoverConfig) -> bool:
    """Tell whether a run can be resumed. AReaL has two names for a mode in which it cannot."""
    return config.mode not in ("disabled", "off")


class Checkpoints(RecoverHandler):
    """AReaL's handler of recovery checkpoints, with a folder for each checkpoint.

    The folders are `<checkpoints of the trial>/recover/step<N>`, and the last two are kept.
    `warn(text)` is called for each checkpoint that cannot be saved or used. It adds the text to
    `warnings` until `warn` is set to another function.
    """

    def __init__(self, config: RecoverConfig, ft_spec: FinetuneSpec):
        super().__init__(config, ft_spec)
        self.warnings: list[str] = []
        self.warn: Callable[[str], None] = self.warnings.append
        root = Saver.get_save_root(config.experiment_name, config.trial_name, config.fileroot)
        self.root = Path(root, "recover")

    def dump(self, engine: Any, step_info: StepInfo, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint if one is due. The training goes on if it cannot be saved."""
        if not recovery_is_on(self.config):
            return
        step = step_info.global_step + 1
        folder = self._use_folder(step)
        try:
            super().dump(engine, step_info, *args, **kwargs)
            if folder.exists():
                finish_checkpoint(folder)
        except Exception as error:
            self.warn(f"the checkpoint of step {step} is lost: {error}")
            shutil.rmtree(folder, ignore_errors=True)
        for old in self._newest_first()[KEPT_CHECKPOINTS:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, *args: Any, **kwargs: Any) -> RecoverInfo | None:
        """Load the newest whole checkpoint. Newer ones are renamed `damaged_step<N>`.

        Raises:
            Exception: there are whole checkpoints, but none can be read or loaded.
        """
        if not recovery_is_on(self.config):
            return None
        failure = None
        passed_over = []
        info = None
        for folder in self._newest_first():
            try:
                damage = find_damage(folder)
                if not damage:
                    info = self._load_step(step_of(folder), *args, **kwargs)
                    break
            except Exception as error:
                damage = str(error)
                failure = error
            self.warn(f"the checkpoint {folder} is passed over: {damage}")
            passed_over.append(folder)
        if failure and not info:
            raise failure
        for folder in passed_over:
            renamed = folder.with_name(f"damaged_{folder.name}")
            shutil.rmtree(renamed, ignore_errors=True)
            folder.rename(renamed)
        return info

    def _load_step(self, step: int, *args: Any, **kwargs: Any) -> RecoverInfo:
        self._use_folder(step)
        info = super().load(*args, **kwargs)
        if info is None:
            raise RuntimeError("AReaL cannot read it")
        return info

    def _use_folder(self, step: int) -> Path:
        """Have AReaL save or load in the folder of a step, and return the folder."""
        folder = self.root / f"step{step}"
        self.config = replace(self.config, fileroot=str(folder))
        return folder

    def _newest_first(self) -> list[Path]:
        """Return the folders of all checkpoints that are not known to be damaged."""
        return sorted(self.root.glob("step*"), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(folder.name.removeprefix("step"))


def finish_checkpoint(folder: Path) -> None:
    """Write the list of a checkpoint's files once all of them are on the disk.

    A checkpoint with this list is whole.
    """
    for path in folder.rglob("*"):
        sync(path)
    digests = file_digests(folder)
    with atomic_file(folder / FILE_LIST) as file:
        json.dump(digests, file)
        file.flush()
        os.fsync(file.fileno())


def file_digests(folder: Path) -> dict[str, list[int | str]]:
    """Return the size in bytes and the digest of each file of a checkpoint, by its path."""
    digests: dict[str, list[int | str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != FILE_LIST:
            digests[str(path.relative_to(folder))] = [path.stat().st_size, digest_of(path)]
    return digests


def find_damage(folder: Path) -> str:
    """Return what is wrong with a checkpoint; "" if nothing is.

    Raises:
        OSError: a file is listed, but cannot be read.
    """
    try:
        expected = json.loads((folder / FILE_LIST).read_text())
    except (OSError, ValueError):
        return "it was not finished"
    found = file_digests(folder)
    problems = []
    for path, digest in expected.items():
        if path not in found:
            problems.append(f"{path} is missing")
        elif found[path] != digest:
            problems.append(f"{path} is damaged")
    return ", ".join(problems)


def digest_of(path: Path) -> str:
    """Return a digest of a file: of the whole file up to 64 MiB, else of blocks spread over it."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for block in range(DIGEST_BLOCKS):
            one_after_another = block * BLOCK_SIZE
            evenly_spread = (size - BLOCK_SIZE) * block // (DIGEST_BLOCKS - 1)
            file.seek(max(one_after_another, evenly_spread))
            digest.update(file.read(BLOCK_SIZE))
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, so that it outlives a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_later_episodes(generated: Path, step: int, under_way: Collection[int] = ()) -> None:
    """Remove the trajectories of episodes that a run which goes on after `step` plays again.

    `under_way` has the numbers of the groups that are played again; some of their episodes may
    have ended before.
    """
    # folders are named by weight version: the evaluation after a step belongs to that step
    for scope, first_version in (("train", step), ("eval", step + 1)):
        for folder in generated.glob(f"{scope}/*"):
            if int(folder.name) >= first_version:
                shutil.rmtree(folder)
    if under_way:
        for path in generated.glob("train/*/*.json"):
            if group_of(path) in under_way:
                path.unlink()
                path.with_suffix(".txt").unlink(missing_ok=True)


def group_of(trajectory: Path) -> int | None:
    """Return the group's number in a trajectory; None if the file has none or is damaged."""
    try:
        return json.loads(trajectory.read_bytes())["group"]
    except (ValueError, KeyError):
        return None
