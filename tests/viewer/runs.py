"""Makes runs to look at: episodes of tau2's mock domain with scripted models, and their folders."""

import asyncio
import json
from pathlib import Path

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo, write_trajectory
from tests.scripted import ground_truth, replay, say

TASKS = ("create_task_1", "update_task_1")
# a page must show this text, and not run it as a part of itself
HOSTILE = (
    "<img src=x onerror=hacked=1></script><script>hacked=2</script><!-- \u2028 <b>bold</b> [[7*7]]"
)
STATISTICS = {
    "rollout/episode/reward": 0.5,
    "eval-rollout/episode/reward": 0.4,
    "rollout/episode/solved": 0.5,
    "rollout/episode/rejected": 0.1,
    "rollout/termination/agent_stop": 0.9,
    "rollout/termination/timeout": 0.1,
    "rollout/termination/max_steps": 0.0,
    "rollout/failure/missing_write": 0.4,
    "rollout/episode/steps": 3.0,
    "rollout/agent/turns": 2.0,
    "rollout/agent/completion_tokens": 30.0,
    "timeperf/rollout": 5.0,
    "timeperf/rollout__count": 1.0,
    "timeperf/train_step": 2.0,
    "ppo_actor/update/grad_norm": 0.3,
    "ppo_actor/update/behave_approx_kl/avg": 1e-4,
}


def play(task_id: str, says: list[dict], **fields) -> Tau2RunInfo:
    """Play an episode in which the agent says this, then set the fields to other values."""
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    info = asyncio.run(workflow.play_with(replay(says), {"task_id": task_id}))
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def solved(task_id: str, **fields) -> Tau2RunInfo:
    """Play an episode in which the agent does what the task expects."""
    agent, _ = ground_truth(environment.find_task("mock", task_id), solo_mode=True)
    return play(task_id, agent, **fields)


def unsolved(task_id: str, **fields) -> Tau2RunInfo:
    """Play an episode with an unknown tool, hostile text, and an action that is not expected."""
    says = [
        say(None, ("no_such_tool", {"text": HOSTILE})),
        say(f"<think>{HOSTILE}</think>", ("create_task", {"user_id": "user_1", "title": HOSTILE})),
        say(None, ("done", {})),
    ]
    return play(task_id, says, **fields)


def write_training_run(folder: Path) -> None:
    """Write two tasks by two weight versions, each solved once and failed twice; one evaluation."""
    for version in range(2):
        for task_id in TASKS:
            for player in (solved, unsolved, unsolved):
                write_trajectory(player(task_id, weight_version=version), folder / "generated")
    write_trajectory(solved(TASKS[0], weight_version=2, is_eval=True), folder / "generated")
    lines = [json.dumps({"step": step, "seconds": 9.0, **STATISTICS}) for step in (1, 2)]
    (folder / "statistics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "half')


def write_evaluation(folder: Path) -> None:
    """Write an evaluation of 5,000 trials, with one more that is half-written."""
    folder.mkdir()
    lines = [info.to_json(indent=None) for info in (solved(TASKS[0]), unsolved(TASKS[1]))]
    with (folder / "episodes.jsonl").open("wb") as file:
        for number in range(5000):
            file.write(b"%d %b\n" % (number // 2, lines[number % 2]))
        file.write(b"2500 " + lines[0][:200])
    summary = {
        "episodes": 5000,
        "pass^1": 0.5,
        "pass^1_interval": [0.4, 0.7],
        "pass^2": 0.3,
        "pass^2_interval": [0.1, 0.4],
        "pass@1": 0.5,
        "pass@1_interval": [0.4, 0.7],
        "pass@2": 0.7,
        "pass@2_interval": [0.5, 0.9],
        "usage": {"agent": {"prompt_tokens": 1000.0, "completion_tokens": 50.0, "usd": 0.25}},
        "missing": [{}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
