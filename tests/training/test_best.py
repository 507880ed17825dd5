"""The checkpoint of the best evaluation is kept, by AReaL's own saver."""

from pathlib import Path

import pytest
from areal.api import FinetuneSpec
from areal.api.cli_args import SaverConfig
from areal.utils.saver import Saver

from examples.tau2.training.best import BestCheckpoint, best_folder, read_best

REWARD = "eval-rollout/episode/reward"
LOSS = "sft-eval/loss/avg"


class Engine:
    """An engine whose weights are a text. If `disk_is_full`, they cannot be written."""

    weights = "new"
    disk_is_full = False

    def save(self, meta) -> None:
        Path(meta.path, "weights").write_text(self.weights)
        if self.disk_is_full:
            raise OSError(28, "No space left on device")


class Run:
    """A process of a run, which goes on after `first_step` steps of earlier ones."""

    def __init__(self, folder: Path, first_step: int = 0):
        names = {"experiment_name": "e", "trial_name": "t", "fileroot": str(folder)}
        # AReaL's own checkpoints are rare
        config = SaverConfig(freq_steps=100, **names)
        self.engine, self.warnings = Engine(), []
        saver = Saver(
            config, FinetuneSpec(total_train_epochs=9, dataset_size=9, train_batch_size=1)
        )
        save_arguments = {"engine": self.engine, "tokenizer": None, "processor": None}
        self.checkpoint = BestCheckpoint(saver, save_arguments, first_step, self.warnings.append)
        self.root = best_folder(config)

    def step(self, number: int, weights: str | None = None, **statistics: float) -> None:
        self.engine.weights = weights or f"after step {number}"
        self.checkpoint.keep(
            0, number - 1, number - 1, {"rollout/episode/reward": 1.0, **statistics}
        )

    def kept(self) -> tuple[str, str]:
        """Return the best step as it is told, and the weights of the only checkpoint."""
        best = read_best(self.root)
        (weights,) = self.root.glob("*/weights")
        assert weights.parent == self.root / best.checkpoint
        return str(best), weights.read_text()


def test_one_checkpoint_is_kept_of_the_step_with_the_best_reward(tmp_path):
    run = Run(tmp_path)
    run.step(1)
    assert not run.root.exists() and read_best(run.root) is None
    for step, reward in enumerate((0.0, 0.5, 0.25, 0.75, float("nan"), 0.75), 2):
        run.step(step, **{REWARD: reward})
        assert len(list(run.root.glob("epoch*"))) == 1
    assert run.kept() == ("step 5, eval reward 0.750", "after step 5")
    assert run.warnings == []


def test_of_losses_the_smallest_is_best(tmp_path):
    run = Run(tmp_path)
    for step, loss in enumerate((2.0, 1.5, 1.75), 1):
        run.step(step, **{LOSS: loss})
    assert run.kept() == ("step 2, eval loss 1.500", "after step 2")


def test_a_run_that_goes_on_knows_the_best_step_of_earlier_processes(tmp_path):
    first = Run(tmp_path)
    first.step(1, **{REWARD: 0.5})
    first.step(2, **{REWARD: 0.25})
    resumed = Run(tmp_path, first_step=1)
    resumed.step(2, **{REWARD: 0.375})
    assert resumed.kept() == ("step 1, eval reward 0.500", "after step 1")
    # a step that is repeated may be better than before
    Run(tmp_path, first_step=1).step(1, "again", **{REWARD: 0.625})
    assert resumed.kept() == ("step 1, eval reward 0.625", "again")


def test_a_run_that_begins_anew_forgets_the_best_step(tmp_path):
    Run(tmp_path).step(7, **{REWARD: 1.0})
    anew = Run(tmp_path)
    assert read_best(anew.root) is None
    anew.step(1, **{REWARD: 0.125})
    assert anew.kept() == ("step 1, eval reward 0.125", "after step 1")


def test_the_former_checkpoint_stays_if_a_better_one_cannot_be_written(tmp_path):
    run = Run(tmp_path)
    run.step(1, **{REWARD: 0.5})
    run.engine.disk_is_full = True
    run.step(2, **{REWARD: 0.75})
    assert run.kept() == ("step 1, eval reward 0.500", "after step 1")
    assert [path.name for path in run.root.glob("epoch*")] == ["epoch0epochstep0globalstep0"]
    assert run.warnings == [
        "the checkpoint of step 2, the best so far, is lost: [Errno 28] No space left on device"
    ]


def test_the_training_goes_on_if_the_folder_cannot_be_made(tmp_path):
    run = Run(tmp_path)
    run.root.write_text("a file in its place")
    run.step(1, **{REWARD: 0.5})
    (warning,) = run.warnings
    assert warning.startswith("the checkpoint of step 1, the best so far, is lost: ")


def test_a_half_written_checkpoint_of_a_killed_run_is_removed(tmp_path):
    run = Run(tmp_path)
    run.step(1, **{REWARD: 0.5})

    def be_killed(meta) -> None:
        Path(meta.path, "weights").write_text("ha")
        raise KeyboardInterrupt

    run.engine.save = be_killed
    with pytest.raises(KeyboardInterrupt):
        run.step(2, **{REWARD: 0.75})
    resumed = Run(tmp_path, first_step=1)
    assert str(read_best(resumed.root)) == "step 1, eval reward 0.500"
    resumed.step(2, **{REWARD: 0.5})
    resumed.step(3, **{REWARD: 1.0})
    assert resumed.kept() == ("step 3, eval reward 1.000", "after step 3")
