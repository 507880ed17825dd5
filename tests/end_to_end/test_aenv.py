"""A training step whose episodes are played in AEnvironment, on the CPU, with a local service."""

import json

from tests.conftest import aenv_instances
from tests.stack import command, processes_of, run_to_the_end


def test_a_training_step(model, aenv_service, tmp_path):
    options = (
        "reward_fn_path=aenv.examples.tau2_rl.agent.run_agent_return_reward",
        "total_train_steps=1",
        "gconfig.n_samples=4",
    )
    printed = run_to_the_end(command(tmp_path, *options), tmp_path / "printed")
    assert "step 1/1 | reward " in printed
    (path,) = tmp_path.glob("logs/*/test/trial/statistics.jsonl")
    statistics = json.loads(path.read_text())
    assert (
        0 < statistics["rollout/episode/reward"] < 1 and statistics["rollout/episode/rejected"] == 0
    )
    assert statistics["ppo_actor/update/grad_norm"] > 0
    assert list(tmp_path.glob("checkpoints/**/model*.safetensors"))
    assert aenv_instances(aenv_service) == [] and processes_of(tmp_path) == []
