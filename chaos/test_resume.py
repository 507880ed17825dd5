"""A training run that is killed ten times resumes from its last checkpoint each time."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.stack import command, folder_of, processes_of, running
from tests.waiting import until

STEPS = 12
# When the run is killed: so many seconds after a phase has begun for the nth time in a process.
MOMENTS = (
    ("rollout", 1, 3),
    ("rollout", 2, 3),
    ("recompute_logp", 2, 0.1),
    ("train_step", 2, 0.5),
    ("train_step", 1, 0.5),
    ("update_weights", 2, 0.3),
    ("save", 2, 0),
    ("eval", 1, 1),
    ("checkpoint", 1, 0),
    ("checkpoint", 2, 0),
)
OPTIONS = (
    "recover.mode=on",
    "recover.freq_steps=1",
    "group_filter=false",
    "actor.path=.cache/tiny-qwen3",
    f"total_train_steps={STEPS}",
    f"total_train_epochs={STEPS}",
)
EVALUATED = (
    "valid_dataset.path=tau2/base",
    "valid_dataset.type=rl",
    "valid_dataset.batch_size=6",
    "evaluator.freq_steps=2",
    "eval_gconfig.n_samples=1",
    "actor.optimizer.lr_scheduler_type=linear",
)


def run(fileroot: Path, options: tuple[str, ...], *killed: object) -> None:
    """Run train.py to its end, or until it is killed at the moment `killed`."""
    output = fileroot / "printed"
    script = ("chaos/killed.py", *map(str, killed)) if killed else ("examples/tau2/train.py",)
    words = command(fileroot, *OPTIONS, *options, script=script)
    with running(words, output, start_new_session=True) as process:
        assert process.wait() == (-9 if killed else 0), output.read_text()
    # servers in groups of their own notice that their workers are gone
    until(lambda: processes_of(fileroot) == [])


@pytest.fixture(scope="module")
def fileroot(tmp_path_factory) -> Path:
    """Return the folder of a run that was killed at each moment, and then left alone."""
    fileroot = tmp_path_factory.mktemp("runs")
    for moment in MOMENTS:
        run(fileroot, EVALUATED, *moment)
        print((fileroot / "printed").read_text()[-500:])
    run(fileroot, EVALUATED)
    print((fileroot / "printed").read_text())
    return fileroot


def test_every_step_has_one_record(fileroot):
    records = [json.loads(line) for line in (folder_of(fileroot) / "statistics.jsonl").open()]
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    has_evaluation = ["eval-rollout/episode/reward" in record for record in records]
    assert has_evaluation == [False, True] * (STEPS // 2)
    rates = [record["ppo_actor/update/lr"] for record in records]
    falls = [before - after for before, after in pairwise(rates)]
    assert falls == pytest.approx([falls[0]] * len(falls)) and falls[0] > 0


def test_every_task_was_played_as_often_as_without_a_kill(fileroot):
    played = Counter()
    for path in folder_of(fileroot).rglob("generated/**/*.json"):
        info = Tau2RunInfo.from_json(path.read_bytes())
        # AReaL begins to play for a step after the last
        if info.is_eval or info.weight_version < STEPS:
            played[info.is_eval, info.weight_version, info.task_id] += 1
    task_ids = {task_id for _, _, task_id in played}
    assert len(task_ids) == 6
    expected = {}
    for task_id in task_ids:
        for version in range(STEPS):
            expected[False, version, task_id] = 8
        for version in range(2, STEPS + 1, 2):
            expected[True, version, task_id] = 1
    assert played == expected


def test_the_optimizer_has_taken_every_step_once(fileroot, tmp_path):
    (weights,) = fileroot.glob(
        f"checkpoints/*/test/trial/recover/step{STEPS}/**/recover_checkpoint"
    )
    dcp_to_torch_save(weights, tmp_path / "state.pt")
    optimizer = torch.load(tmp_path / "state.pt", weights_only=False)["dcp"]["optim"]
    taken = {float(value) for name, value in optimizer.items() if name.endswith(".step")}
    assert taken == {STEPS}


def test_a_finished_run_that_is_started_again_does_nothing(fileroot):
    def made() -> set[Path]:
        """Return the episodes, without those of a step after the last, which AReaL begins."""
        episodes = folder.rglob("generated/**/*.json")
        return {path for path in episodes if path.parts[-3:-1] != ("train", str(STEPS))}

    folder = folder_of(fileroot)
    before, records = made(), (folder / "statistics.jsonl").read_text()
    run(fileroot, EVALUATED)
    assert made() == before
    assert (folder / "statistics.jsonl").read_text() == records


def test_groups_that_were_under_way_are_played_again_as_a_whole(tmp_path):
    """Three steps are played at a time, as in the configs for GPUs."""
    options = ("rollout.max_head_offpolicyness=2", f"total_train_steps={STEPS // 2}")
    for moment in (("train_step", 2, 0.5), ("rollout", 2, 3), ()):
        run(tmp_path, options, *moment)
    print((tmp_path / "printed").read_text())
    groups = defaultdict(list)
    for path in folder_of(tmp_path).rglob("generated/train/**/*.json"):
        info = Tau2RunInfo.from_json(path.read_bytes())
        groups[info.group].append((info.task_id, info.weight_version))
    whole = [group for group in groups.values() if len(group) == 8]
    assert len(whole) >= STEPS // 2 * 6
    # The groups that are under way at the end have begun after this step.
    last = STEPS // 2 - 2
    for group in groups.values():
        assert len(group) <= 8
        assert len({task_id for task_id, _ in group}) == 1
        if len(group) < 8:
            assert min(version for _, version in group) >= last
