"""Stores an evaluation's finished trials in a file, which one process at a time may write."""

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.evaluation.settings import TrialKey
from examples.tau2.evaluation.setup_hints import EpisodeSigns, signs_of_episode


@dataclass(frozen=True)
class Trial:
    """What is measured of a finished episode.

    `offset` is where its line begins in the file.
    """

    key: TrialKey
    reward: float
    termination: str
    statistics: dict[str, float]
    signs: EpisodeSigns
    offset: int


class TrialStore:
    """The finished trials of an evaluation, read from a file and appended to it.

    A line of the file has one trial: its number, a space, the episode. The episodes stay in the
    file; `trials` has what is measured of them.
    A last line without an end is dropped: the process was killed while it wrote the line.

    Raises:
        OSError: the file cannot be written, or another process is writing it.
        ValueError: a line is no trial.
    """

    def __init__(self, path: Path):
        self.trials: dict[TrialKey, Trial] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another evaluation is writing to {path}") from None
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    self._file.truncate(offset)
                    break
                number, _, episode = line.partition(b" ")
                if not line.strip():
                    offset += len(line)
                    continue
                try:
                    self._remember(int(number), Tau2RunInfo.from_json(episode), offset)
                except ValueError as error:
                    raise ValueError(
                        f"{path}: the line at byte {offset} is no trial; remove it, or choose "
                        "another --output"
                    ) from error
                offset += len(line)

    def add(self, number: int, info: Tau2RunInfo) -> None:
        """Append a trial to the file, in a single write; trials of a task are counted from 0.

        Raises:
            OSError: the disk is full; the file is as it was.
        """
        offset = self._file.seek(0, os.SEEK_END)
        line = b"%d %b\n" % (number, info.to_json(indent=None))
        if self._file.write(line) != len(line):
            self._file.truncate(offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._remember(number, info, offset)

    def episodes(self, trials: Iterable[Trial]) -> Iterator[bytes]:
        """Read the episodes of these trials, each as JSON."""
        with open(self._file.name, "rb") as file:
            for trial in trials:
                file.seek(trial.offset)
                yield file.readline().partition(b" ")[2]

    def close(self) -> None:
        """Close the file, and let another process write it."""
        self._file.close()

    def _remember(self, number: int, info: Tau2RunInfo, offset: int) -> None:
        key = TrialKey(info.task_id, number)
        self.trials[key] = Trial(
            key,
            info.reward,
            info.termination,
            info.statistics(),
            signs_of_episode(info),
            offset,
        )


def open_store(folder: Path, identity: dict[str, object]) -> TrialStore:
    """Open the store of an evaluation's folder, and write the identity to settings.json.

    Raises:
        OSError: another process is writing to the folder, or the disk is full, read-only, ...
        ValueError: the folder holds episodes of another identity, or files that cannot be read.
    """
    settings_file = folder / "settings.json"
    if settings_file.exists() and _read_identity(settings_file) != identity:
        raise ValueError(
            f"{folder} holds episodes of other settings, see {settings_file}: "
            "choose another --output"
        )
    store = TrialStore(folder / "episodes.jsonl")
    with atomic_file(settings_file) as file:
        json.dump(identity, file, indent=1)
    return store


def _read_identity(path: Path) -> object:
    """Read the identity of a folder's episodes; None if there is none in the file."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None
