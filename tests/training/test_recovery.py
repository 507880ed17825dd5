"""Checkpoints of a resumed run: AReaL's faults, which ours does not have."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from areal.api import FinetuneSpec, StepInfo
from areal.api.cli_args import RecoverConfig
from areal.utils.recover import RecoverHandler

from examples.tau2.training.recovery import (
    FILE_LIST,
    Checkpoints,
    file_digests,
    find_damage,
    forget_later_episodes,
)

# -- checkpoints ---------------------------------------------------------------------------------


class Engine:
    """An engine whose weights are a number."""

    def __init__(self, weights: int = 0):
        self.weights = weights

    def save(self, meta) -> None:
        Path(meta.path, "weights").write_text(str(self.weights) * 1000)

    def load(self, meta) -> None:
        text = Path(meta.path, "weights").read_text()
        self.weights = int(text[: len(text) // 1000])


class State:
    """Stands for the other parts of a run whose state AReaL saves."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def checkpoints(folder: Path, handler: type[RecoverHandler] = Checkpoints):
    """Make the handler of checkpoints, as each process of a run does when it starts."""
    names = {"experiment_name": "e", "trial_name": "t", "fileroot": str(folder)}
    spec = FinetuneSpec(total_train_epochs=10, dataset_size=10, train_batch_size=1)
    return handler(RecoverConfig(mode="on", freq_steps=1, **names), spec)


def save(handler: RecoverHandler, step: int, engine: Engine | None = None) -> None:
    info = StepInfo(global_step=step - 1, epoch=0, epoch_step=step - 1, steps_per_epoch=10)
    handler.dump(engine or Engine(step), info, State(), State(), State(), State())


def load(handler: RecoverHandler) -> tuple[int, int]:
    """Return the step after which a run goes on (0 without a checkpoint), and its weights."""
    engine = Engine()
    info = handler.load(engine, State(), State(), State(), State())
    return info.last_step_info.global_step + 1 if info else 0, engine.weights


class FullDisk(Engine):
    """An engine whose disk is full when it has written its weights."""

    def save(self, meta) -> None:
        super().save(meta)
        raise OSError(28, "No space left on device")


def test_areals_handler_writes_a_checkpoint_over_the_one_before(tmp_path):
    save(checkpoints(tmp_path, RecoverHandler), 1)
    with pytest.raises(OSError, match="No space left"):
        save(checkpoints(tmp_path, RecoverHandler), 2, FullDisk(2))
    # weights of step 2 with the rest of step 1
    assert load(checkpoints(tmp_path, RecoverHandler)) == (1, 2)


def test_areals_handler_begins_anew_if_it_cannot_read_a_checkpoint(tmp_path):
    for step in (1, 2):
        save(checkpoints(tmp_path, RecoverHandler), step)
    for path in tmp_path.rglob("step_info.json"):
        path.write_text("{")
    assert load(checkpoints(tmp_path, RecoverHandler)) == (0, 0)


def kept(handler: Checkpoints) -> list[str]:
    return sorted(path.name for path in handler.root.glob("*"))


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path):
    assert load(checkpoints(tmp_path)) == (0, 0)
    for step in (1, 2, 3):
        save(checkpoints(tmp_path), step)
    assert kept(checkpoints(tmp_path)) == ["step2", "step3"]
    assert load(checkpoints(tmp_path)) == (3, 3)


def weights_of(folder: Path) -> Path:
    return next(folder.rglob("weights"))


def halve_list(folder: Path) -> None:
    path = folder / FILE_LIST
    path.write_text(path.read_text()[:20])


def empty_step_info(folder: Path) -> None:
    next(folder.rglob("step_info.json")).write_text("{}")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "unfinished": lambda folder: (folder / FILE_LIST).unlink(),
    "half a list": halve_list,
    "cut": lambda folder: weights_of(folder).write_text("3" * 100),
    "zeros": lambda folder: weights_of(folder).write_bytes(bytes(1000)),
    "missing": lambda folder: weights_of(folder).unlink(),
    "another step's state": empty_step_info,
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_message(tmp_path, how):
    for step in (2, 3):
        save(checkpoints(tmp_path), step)
    newest = checkpoints(tmp_path).root / "step3"
    assert find_damage(newest) == ""
    DAMAGES[how](newest)
    handler = checkpoints(tmp_path)
    assert load(handler) == (2, 2)
    (warning,) = handler.warnings
    assert warning.startswith(f"the checkpoint {newest} is passed over: ")
    # step 3 is done again
    for step in (3, 4):
        save(handler, step)
    assert kept(handler) == ["damaged_step3", "step3", "step4"]
    assert load(checkpoints(tmp_path)) == (4, 4)


def test_a_run_begins_anew_if_every_checkpoint_is_damaged(tmp_path):
    for step in (8, 9):
        save(checkpoints(tmp_path), step)
        DAMAGES["missing"](checkpoints(tmp_path).root / f"step{step}")
    handler = checkpoints(tmp_path)
    assert load(handler) == (0, 0) and len(handler.warnings) == 2
    for step in (1, 2, 3):
        save(handler, step)
    assert load(checkpoints(tmp_path)) == (3, 3)


def test_a_run_does_not_begin_anew_because_its_engine_cannot_load(tmp_path):
    class OutOfMemory(Engine):
        def load(self, meta) -> None:
            raise RuntimeError("out of memory")

    save(checkpoints(tmp_path), 1)
    with pytest.raises(RuntimeError, match="out of memory"):
        checkpoints(tmp_path).load(OutOfMemory(), State(), State(), State(), State())
    assert load(checkpoints(tmp_path)) == (1, 1)


@pytest.mark.parametrize(
    "size, where", [(3 * 2**20, 2**20 + 5), (2**26, 2**25), (2**28, 0), (2**28, 2**28 - 1)]
)
def test_damage_within_large_files_is_found(tmp_path, size, where):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(size)
    before = file_digests(tmp_path)
    with path.open("r+b") as file:
        file.seek(where)
        file.write(b"!")
    assert file_digests(tmp_path) != before


def test_the_training_goes_on_if_a_checkpoint_cannot_be_saved(tmp_path):
    save(checkpoints(tmp_path), 1)
    handler = checkpoints(tmp_path)
    save(handler, 2, FullDisk(2))
    assert handler.warnings == [
        "the checkpoint of step 2 is lost: [Errno 28] No space left on device"
    ]
    assert kept(handler) == ["step1"]
    assert load(handler) == (1, 1)


def test_without_recovery_nothing_is_written_or_read(tmp_path):
    save(checkpoints(tmp_path), 1)
    off = checkpoints(tmp_path)
    off.config.mode = "disabled"
    assert load(off) == (0, 0)
    save(off, 1, Engine(7))
    save(off, 2)
    assert kept(off) == ["step1"] and load(checkpoints(tmp_path)) == (1, 1)


# -- trajectories -------------------------------------------------------------------------------


def test_episodes_that_will_be_played_again_are_forgotten(tmp_path):
    for scope in ("train", "eval"):
        for version in range(4):
            (tmp_path / scope / str(version)).mkdir(parents=True)
            (tmp_path / scope / str(version) / "episode.json").touch()
    forget_later_episodes(tmp_path, step=2)
    left = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    assert left == ["eval/0", "eval/1", "eval/2", "train/0", "train/1"]
    forget_later_episodes(tmp_path / "none", step=0)


def test_of_groups_that_will_be_played_again_no_member_is_kept(tmp_path):
    for version, group in ((0, 1), (1, 1), (1, 2), (2, 3)):
        path = tmp_path / "train" / str(version) / f"{group}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"messages": ["x" * 1000], "group": group}, indent=1))
        path.with_suffix(".txt").touch()
    (tmp_path / "train/1/2.json").rename(tmp_path / "train/1/torn.json")
    (tmp_path / "train/1/torn.json").write_text("")
    forget_later_episodes(tmp_path, step=2, under_way=[1])
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert left == ["train/1/2.txt", "train/1/torn.json"]
