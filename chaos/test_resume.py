"""A training run that is killed ten times goes on from its last checkpoint each time, as if nothing had happened."""

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
# what is going on, for which time in that process, and for how many seconds, when all of it is killed
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
    *(
        "recover.mode=on",
        "recover.freq_steps=1",
        "group_filter=false",
        "actor.path=.cache/tiny-qwen3",
    ),
    *(f"total_train_steps={STEPS}", f"total_train_epochs={STEPS}"),
)
EVALUATED = (
    *(
        "valid_dataset.path=tau2/base",
        "valid_dataset.type=rl",
        "valid_dataset.batch_size=6",
        "evaluator.freq_steps=2",
    ),
    *("eval_gconfig.n_samples=1", "actor.optimizer.lr_scheduler_type=linear"),
)


def run(fileroot: Path, options: tuple[str, ...], *killed: object) -> None:
    output = fileroot / "printed"
    script = ("chaos/killed.py", *map(str, killed)) if killed else ("examples/tau2/train.py",)
    words = command(fileroot, *OPTIONS, *options, script=script)
    with running(words, output, start_new_session=True) as process:
        assert process.wait() == (-9 if killed else 0), output.read_text()
    # servers in groups of their own notice that their workers are gone
    until(lambda: processes_of(fileroot) == [])


@pytest.fixture(scope="module")
def fileroot(tmp_path_factory) -> Path:
    """Of a run that was killed at each of the moments, and then left alone."""
    fileroot = tmp_path_factory.mktemp("runs")
    for moment in MOMENTS:
        run(fileroot, EVALUATED, *moment)
        print((fileroot / "printed").read_text()[-500:])
    run(fileroot, EVALUATED)
    print((fileroot / "printed").read_text())
    return fileroot


def test_every_step_has_one_record(fileroot):
    records = [json.loads(line) for line in (folder_of(fileroot) / "statistics.jsonl").open()]
    assert [record["step"] for record in records] == [*range(1, STEPS + 1)]
    assert ["eval-rollout/episode/reward" in record for record in records] == [False, True] * (
        STEPS // 2
    )
    rates = [record["ppo_actor/update/lr"] for record in records]
    falls = [before - after for before, after in pairwise(rates)]
    assert falls == pytest.approx([falls[0]] * len(falls)) and falls[0] > 0


def test_every_task_was_played_as_often_as_in_a_run_that_was_left_alone(fileroot):
    played = Counter()
    for path in folder_of(fileroot).rglob("generated/**/*.json"):
        info = Tau2RunInfo.from_json(path.read_bytes())
        if (
            info.is_eval or info.weight_version < STEPS
        ):  # AReaL begins to play for a step after the last
            played[info.is_eval, info.weight_version, info.task_id] += 1
    tasks = {task for _, _, task in played}
    assert len(tasks) == 6
    training = {(False, version, task): 8 for version in range(STEPS) for task in tasks}
    evaluations = {(True, version, task): 1 for version in range(2, STEPS + 1, 2) for task in tasks}
    assert played == training | evaluations


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
        """But for what AReaL has begun to play for a step after the last."""
        return {
            path
            for path in folder.rglob("generated/**/*.json")
            if path.parts[-3:-1] != ("train", str(STEPS))
        }

    folder = folder_of(fileroot)
    before, records = made(), (folder / "statistics.jsonl").read_text()
    run(fileroot, EVALUATED)
    assert made() == before and (folder / "statistics.jsonl").read_text() == records


def test_groups_that_were_under_way_are_played_again_as_a_whole(tmp_path):
    """Of three steps at a time, as in the configs for GPUs."""
    options = ("rollout.max_head_offpolicyness=2", f"total_train_steps={STEPS // 2}")
    for moment in (("train_step", 2, 0.5), ("rollout", 2, 3), ()):
        run(tmp_path, options, *moment)
    print((tmp_path / "printed").read_text())
    groups = defaultdict(list)
    for path in folder_of(tmp_path).rglob("generated/train/**/*.json"):
        info = Tau2RunInfo.from_json(path.read_bytes())
        groups[info.group].append((info.task_id, info.weight_version))
    whole = [group for group in groups.values() if len(group) == 8]
    assert len(whole) >= STEPS // 2 * 6 and max(map(len, groups.values())) == 8
    assert all(len({task for task, _ in group}) == 1 for group in groups.values())
    last = (
        STEPS // 2 - 2
    )  # what is under way at the end has begun after this step, or was to be trained on later
    assert all(
        version >= last for group in groups.values() if len(group) < 8 for _, version in group
    )
