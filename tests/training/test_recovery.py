"""Checkpoints by AReaL's own handler, and the order of tasks in a resumed run."""

import json
from pathlib import Path

import pytest
from areal.api import FinetuneSpec, StepInfo
from areal.api.cli_args import RecoverConfig

from examples.tau2.training.recovery import (
    FILE_LIST,
    Checkpoints,
    ResumableDataLoader,
    file_digests,
    find_damage,
    forget_later_episodes,
)


def tasks(number: int = 10, **state) -> ResumableDataLoader:
    stream = ResumableDataLoader(
        [f"task {row}" for row in range(number)],
        batch_size=3,
        shuffle=True,
        drop_last=False,
        seed=1,
    )
    if state:
        stream.load_state_dict(state)
    return stream


def epochs(stream: ResumableDataLoader, number: int) -> list[str]:
    return [task for _ in range(number) for batch in stream for task in batch]


def test_every_epoch_has_every_task_once_in_an_order_of_its_own():
    stream = tasks()
    first, second = epochs(stream, 1), epochs(stream, 1)
    assert first != second and sorted(first) == sorted(second) == sorted(stream.dataset)
    assert len(stream) == 4
    stream.drop_last = True
    assert len(stream) == 3 and len(epochs(stream, 1)) == 9


@pytest.mark.parametrize("batches", range(9))
def test_tasks_go_on_where_they_were(batches):
    whole, stream = epochs(tasks(), 4), tasks()
    done = []
    while batches > 0:
        for batch in stream:
            done += batch
            batches -= 1
            if batches == 0:
                break
    rest = epochs(tasks(**json.loads(json.dumps(stream.state_dict()))), 4)
    assert done + rest[: len(whole) - len(done)] == whole


def test_what_was_under_way_comes_again_first():
    stream = tasks()
    done = epochs(stream, 1)
    stream.unfinished = lambda number: number in (2, 9)
    state = stream.state_dict()
    resumed = tasks(**state)
    assert next(iter(resumed)) == [done[2], done[9]]
    # not handed out yet when the next checkpoint is written
    assert tasks(**state).state_dict() == {**state, "under_way": []}
    # numbers go on, so that they name groups of the whole run
    assert resumed.under_way == [2, 9] and resumed.count == 12
    resumed.unfinished = lambda number: number == 11
    assert next(iter(tasks(**resumed.state_dict()))) == [done[9]]


class Engine:
    """Saves a number as its weights."""

    def __init__(self, weights: int = 0):
        self.weights = weights

    def save(self, meta) -> None:
        Path(meta.path, "weights").write_text(str(self.weights) * 1000)

    def load(self, meta) -> None:
        text = Path(meta.path, "weights").read_text()
        self.weights = int(text[: len(text) // 1000])


class State:
    """What else AReaL saves."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def checkpoints(folder: Path, **config) -> Checkpoints:
    names = {"experiment_name": "e", "trial_name": "t", "fileroot": str(folder)}
    spec = FinetuneSpec(total_train_epochs=10, dataset_size=10, train_batch_size=1)
    return Checkpoints(RecoverConfig(mode="on", freq_steps=1, **names, **config), spec)


def save(handler: Checkpoints, step: int, engine: Engine | None = None) -> None:
    info = StepInfo(global_step=step - 1, epoch=0, epoch_step=step - 1, steps_per_epoch=10)
    handler.dump(engine or Engine(step), info, State(), State(), State(), State())


def load(handler: Checkpoints) -> int:
    """The step after which it goes on, 0 without a checkpoint, by step and weights."""
    engine = Engine()
    info = handler.load(engine, State(), State(), State(), State())
    step = info.last_step_info.global_step + 1 if info else 0
    assert engine.weights == step
    return step


def kept(handler: Checkpoints) -> list[str]:
    return sorted(path.name for path in handler.root.glob("*"))


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path):
    assert load(checkpoints(tmp_path)) == 0
    for step in (1, 2, 3):
        save(checkpoints(tmp_path), step)
    assert kept(checkpoints(tmp_path)) == ["step2", "step3"]
    assert load(checkpoints(tmp_path)) == 3


def damages():
    def weights(folder: Path) -> Path:
        return next(folder.rglob("weights"))

    return {
        "unfinished": lambda folder: (folder / FILE_LIST).unlink(),
        "half a list": lambda folder: (folder / FILE_LIST).write_text(
            (folder / FILE_LIST).read_text()[:20]
        ),
        "cut": lambda folder: weights(folder).write_text("3" * 100),
        "zeros": lambda folder: weights(folder).write_bytes(bytes(1000)),
        "missing": lambda folder: weights(folder).unlink(),
        "another step's state": lambda folder: next(folder.rglob("step_info.json")).write_text(
            "{}"
        ),
    }


@pytest.mark.parametrize("how", damages())
def test_a_damaged_checkpoint_is_passed_over_with_a_message(tmp_path, how):
    for step in (2, 3):
        save(checkpoints(tmp_path), step)
    newest = checkpoints(tmp_path).root / "step3"
    assert find_damage(newest) == ""
    damages()[how](newest)
    handler = checkpoints(tmp_path)
    assert load(handler) == 2
    (warning,) = handler.warnings
    assert warning.startswith(f"the checkpoint {newest} is passed over: ")
    for step in (3, 4):  # step 3 is done again
        save(handler, step)
    assert kept(handler) == ["damaged_step3", "step3", "step4"]
    assert load(checkpoints(tmp_path)) == 4


def test_if_none_can_be_used_it_begins_anew_and_the_next_are(tmp_path):
    for step in (8, 9):
        save(checkpoints(tmp_path), step)
        damages()["missing"](checkpoints(tmp_path).root / f"step{step}")
    handler = checkpoints(tmp_path)
    assert load(handler) == 0 and len(handler.warnings) == 2
    for step in (1, 2, 3):
        save(handler, step)
    assert load(checkpoints(tmp_path)) == 3


def test_a_run_does_not_begin_anew_because_its_engine_cannot_load(tmp_path):
    class OutOfMemory(Engine):
        def load(self, meta) -> None:
            raise RuntimeError("out of memory")

    save(checkpoints(tmp_path), 1)
    with pytest.raises(RuntimeError, match="out of memory"):
        checkpoints(tmp_path).load(OutOfMemory(), State(), State(), State(), State())
    assert load(checkpoints(tmp_path)) == 1


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


def test_a_checkpoint_that_cannot_be_saved_costs_nothing_but_itself(tmp_path):
    class Full(Engine):
        def save(self, meta) -> None:
            super().save(meta)
            raise OSError(28, "No space left on device")

    save(checkpoints(tmp_path), 1)
    handler = checkpoints(tmp_path)
    save(handler, 2, Full(2))
    assert handler.warnings == [
        "the checkpoint of step 2 is lost: [Errno 28] No space left on device"
    ]
    assert kept(handler) == ["step1"]
    assert load(handler) == 1


def test_without_recovery_nothing_is_written_or_read(tmp_path):
    save(checkpoints(tmp_path), 1)
    off = checkpoints(tmp_path)
    off.config.mode = "disabled"
    assert load(off) == 0
    save(off, 1, Engine(7))
    save(off, 2)
    assert kept(off) == ["step1"] and load(checkpoints(tmp_path)) == 1


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
