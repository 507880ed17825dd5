"""The main job as a user runs it: AReaL, Archon, SGLang and the proxy, with a tiny model."""

import json
import os
import signal
import sqlite3
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
from areal.utils.network import gethostip
from safetensors.torch import load_file

from examples.tau2.data.dataset import task_rows
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.stack import (
    command,
    folder_of,
    processes_of,
    run_to_the_end,
    running,
    statistics_of,
    trajectories_of,
    wait_for,
)

STEPS = 3
KEY = "of-these-tests-alone"


@pytest.fixture(scope="module")
def run(model, tmp_path_factory) -> tuple[Path, str]:
    """The folder of a finished run, and what it printed."""
    fileroot = tmp_path_factory.mktemp("runs")
    steps = (f"total_train_steps={STEPS}", "saver.freq_steps=1", f"evaluator.freq_steps={STEPS}")
    validation = (
        "valid_dataset.path=tau2/base",
        "valid_dataset.type=rl",
        "valid_dataset.batch_size=4",
        "eval_gconfig.n_samples=2",
    )
    trackers = (
        "stats_logger.wandb.mode=offline",
        "stats_logger.trackio.mode=local",
        f"stats_logger.tensorboard.path={fileroot}/tensorboard",
    )
    keys = ("TAU2_PROXY_ADMIN_API_KEY", "SWANLAB_API_KEY", "TAU2_USER_LLM_API_KEY")
    variables = {
        **os.environ,
        "TRACKIO_DIR": f"{fileroot}/trackio",
        # nobody is logged in there
        "HOME": str(fileroot),
        **dict.fromkeys(keys, KEY),
    }
    words = command(fileroot, *steps, *validation, *trackers)
    printed = run_to_the_end(words, fileroot / "printed", env=variables)
    assert processes_of(fileroot) == []
    return fileroot, printed


@pytest.fixture(scope="module")
def folder(run) -> Path:
    return folder_of(run[0])


@pytest.fixture(scope="module")
def statistics(folder) -> list[dict]:
    return statistics_of(folder)


@pytest.fixture(scope="module")
def trajectories(folder) -> list[Tau2RunInfo]:
    return trajectories_of(folder)


def test_the_steps_ran_and_were_reported(run, statistics):
    assert [record["step"] for record in statistics] == list(range(1, STEPS + 1))
    for step in range(1, STEPS + 1):
        assert f"step {step}/{STEPS} | reward " in run[1]
    # the last lines name what there is
    last = run[1].splitlines()[-5:]
    places = ("generated", "statistics.jsonl", "checkpoint", "best", "report")
    for line, place in zip(last, places, strict=True):
        assert Path(line.split()[1]).exists() and place in line
    reward = statistics[-1]["eval-rollout/episode/reward"]
    assert last[3].endswith(f" (step {STEPS}, eval reward {reward:.3f})")


def test_the_tau2_that_was_played_is_stored(folder, trajectories):
    (source,) = {str(info.tau2) for info in trajectories}
    assert (folder / "config.yaml").read_text().endswith(f"\n# tau2: {source}\n")


def test_gradients_flowed(statistics):
    assert sum(record["ppo_actor/update/grad_norm"] > 0 for record in statistics) > STEPS / 2


def test_rollout_and_recomputed_logprobs_agree_on_policy(statistics):
    for record in statistics:
        assert abs(record["ppo_actor/update/behave_approx_kl/avg"]) < 1e-4
        # with the weights of another step, the tokens' log probabilities would differ more
        for end in ("min", "max"):
            assert abs(record[f"ppo_actor/update/compute_logp/kl_div_direct/{end}"]) < 1e-3


def test_weights_changed_at_every_step_and_were_served(run, model, trajectories):
    """Each checkpoint differs from the one before; the next step's episodes are played with it."""
    saved = sorted(
        run[0].glob("checkpoints/**/default/*/model*.safetensors"),
        key=lambda path: path.stat().st_mtime,
    )
    weights = [load_file(path) for path in (model / "model.safetensors", *saved)]
    assert len(weights) == STEPS + 1
    for before, after in pairwise(weights):
        assert any((before[name] != after[name]).any() for name in before if name in after)
    assert {info.weight_version for info in trajectories} >= set(range(STEPS))


def test_rewards_of_both_kinds_occurred(trajectories):
    assert {0.0, 1.0} <= {info.reward for info in trajectories}


def test_trajectories_agree_with_the_rewards(statistics, trajectories):
    """AReaL's tracker counts the episodes that ended between two steps.

    All of them are on disk, and none twice.
    """
    assert len({info.simulation.id for info in trajectories}) == len(trajectories)
    first = [info for info in trajectories if info.weight_version == 0 and not info.is_eval]
    mean = sum(info.reward for info in first) / len(first)
    assert statistics[0]["rollout/episode/reward"] == pytest.approx(mean, abs=1e-6)
    groups = Counter((info.is_eval, info.group, info.task_id) for info in trajectories)
    assert len({group[:2] for group in groups}) == len(groups) and set(groups.values()) <= set(
        range(1, 9)
    )
    for info in trajectories:
        assert info.reward == info.simulation.reward_info.reward
        assert sum(info.rewards.values()) == pytest.approx(
            info.reward - 0.1 * sum(turn.malformed is not None for turn in info.turns)
        )


def test_validation_plays_every_task_once_per_sample_and_is_counted_apart(statistics, trajectories):
    validation = [info for info in trajectories if info.is_eval]
    ids = [row["task_id"] for row in task_rows("mock", "tau2/base", True)]
    assert Counter(info.task_id for info in validation) == dict.fromkeys(ids, 2)
    assert {info.weight_version for info in validation} == {STEPS}
    mean = sum(info.reward for info in validation) / len(validation)
    assert statistics[-1]["eval-rollout/episode/reward"] == pytest.approx(mean, abs=1e-6)


def test_the_report_shows_every_curve_and_episode(folder, trajectories):
    page = (folder / "report.html").read_text()
    data = json.loads(
        page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    )
    assert len(data["episodes"]) == len(trajectories)
    assert [chart["title"] for chart in data["charts"]] == [
        "Reward",
        "Solved",
        "Why training episodes ended",
        "Kinds of failure in training",
        "Length",
        "Tokens",
        "Seconds by phase",
        "Gradient norm",
        "KL divergence",
    ]
    assert [trace["name"] for trace in data["charts"][0]["data"]] == ["train", "eval"]


def test_trackers_have_the_statistics_and_no_key(run, folder, statistics):
    """Weights & Biases offline, trackio and TensorBoard, without a login."""
    (database,) = run[0].glob("trackio/*.db")
    with sqlite3.connect(database) as connection:
        logged = [
            json.loads(metrics)
            for (metrics,) in connection.execute("SELECT metrics FROM metrics ORDER BY step")
        ]
    for name in (
        "rollout/episode/reward",
        "rollout/termination/agent_stop",
        "ppo_actor/update/grad_norm",
    ):
        assert [row[name] for row in logged] == pytest.approx(
            [record[name] for record in statistics]
        )
    (offline,) = folder.glob("wandb/offline-run-*/*.wandb")
    (events,) = run[0].glob("tensorboard/events*")
    for file in (offline, events):
        assert b"eval-rollout/episode/solved" in file.read_bytes()
    # they have the config, in which the proxy's key is the one that nothing uses
    for file in (offline, database):
        assert b"areal-admin-key" in file.read_bytes()


def test_no_key_is_written(run, folder):
    assert KEY not in run[1]
    for path in run[0].rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".txt", ".jsonl"):
            assert "Bearer" not in path.read_text() and "api_key" not in path.read_text()


def test_the_proxy_obeys_one_key_and_ctrl_c_ends_every_process(model, tmp_path):
    variables = {**os.environ, "TAU2_PROXY_ADMIN_API_KEY": KEY}
    output = tmp_path / "printed"
    with running(command(tmp_path), output, env=variables, preexec_fn=obey_ctrl_c) as process:
        # the proxy is there
        wait_for("\nstep 1/", process, output)
        assert KEY not in str([other.info["cmdline"] for other in processes_of(tmp_path)])
        workers = [
            other
            for other in processes_of(tmp_path)
            if "train.py" not in str(other.info["cmdline"])
        ]
        variables_of_workers = [environ(worker) for worker in workers]
        assert any(variables_of_workers) and KEY not in str(variables_of_workers)
        proxy = next(
            worker.info["cmdline"]
            for worker in workers
            if "proxy-rollout" in worker.info["cmdline"]
        )
        url = f"http://{gethostip()}:{proxy[proxy.index('--port') + 1]}/grant_capacity"
        answers = [
            httpx.post(url, headers={"Authorization": f"Bearer {key}"}, timeout=None)
            for key in ("areal-admin-key", KEY)
        ]
        assert [answer.status_code for answer in answers] == [403, 200]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert processes_of(tmp_path) == []


def obey_ctrl_c() -> None:
    """Let a process end by SIGINT, which it may have inherited as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environ(process: psutil.Process) -> dict[str, str]:
    """The environment variables of a process; none if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.environ()
    return {}
