"""Stores an evaluation's finished trials in a file, which one process at a time may write."""

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path

from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.evaluation.settings import TrialKey


@dataclass(frozen=True)
class Trial:
    """A finished episode of the evaluation; trials of a task are counted from 0."""

    number: int
    info: Tau2RunInfo

    @property
    def key(self) -> TrialKey:
        return TrialKey(self.info.task_id, self.number)


class TrialStore:
    """The finished trials of an evaluation, read from a file and appended to it.

    A line of the file has one trial: its number, a space, the episode.
    A last line without an end is dropped: the process was killed while it wrote the line.

    Raises:
        OSError: the file cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path):
        self.trials: dict[TrialKey, Trial] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another evaluation is writing to {path}") from None
        lines = path.read_bytes().splitlines(keepends=True)
        finished = [line for line in lines if line.endswith(b"\n")]
        if finished != lines:
            path.write_bytes(b"".join(finished))
        for line in finished:
            number, _, episode = line.partition(b" ")
            trial = Trial(int(number), Tau2RunInfo.from_json(episode))
            self.trials[trial.key] = trial

    def add(self, trial: Trial) -> None:
        """Append a trial to the file, in a single write."""
        self._file.write(b"%d %b\n" % (trial.number, trial.info.to_json(indent=None)))
        self.trials[trial.key] = trial

    def close(self) -> None:
        """Close the file, and let another process write it."""
        self._file.close()


def open_store(folder: Path, identity: dict[str, object]) -> TrialStore:
    """Open the store of an evaluation's folder, and write the identity to settings.json.

    Raises:
        OSError: the folder holds episodes of another identity, another process is writing to it,
            or the disk is full, read-only, ...
    """
    settings_file = folder / "settings.json"
    if settings_file.exists() and json.loads(settings_file.read_text()) != identity:
        raise OSError(
            f"{folder} holds episodes of other settings, see {settings_file}: "
            "choose another --output"
        )
    store = TrialStore(folder / "episodes.jsonl")
    settings_file.write_text(json.dumps(identity, indent=1))
    return store
