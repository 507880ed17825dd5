"""A training step whose episodes are played in AEnvironment: AReaL's trainer, the CPU stack, a local service."""

import json
import os
import subprocess

from tests.conftest import aenv_instances
from tests.stack import ROOT, command, processes_of


def test_a_training_step(model, aenv_service, tmp_path):
    options = (
        "reward_fn_path=aenv.examples.tau2_rl.agent.run_agent_return_reward",
        *("total_train_steps=1", "gconfig.n_samples=4"),
    )
    run = subprocess.run(
        command(tmp_path, *options),
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "step 1/1 | reward " in run.stdout
    (path,) = tmp_path.glob("logs/*/test/trial/statistics.jsonl")
    statistics = json.loads(path.read_text())
    assert (
        0 < statistics["rollout/episode/reward"] < 1 and statistics["rollout/episode/rejected"] == 0
    )
    assert statistics["ppo_actor/update/grad_norm"] > 0
    assert list(tmp_path.glob("checkpoints/**/model*.safetensors"))
    assert aenv_instances(aenv_service) == [] and processes_of(tmp_path) == []
