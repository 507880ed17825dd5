"""AReaL trains on episodes in AEnvironment: with its real proxy, a real service, the real SDK."""

import asyncio
import json

import pytest

import aenv
from aenv.examples.tau2_rl import workflow
from aenv.examples.tau2_rl.workflow import RewardFnWorkflow
from examples.tau2.agent import EpisodeRejected
from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.training.checks import find_problems
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.groups import Episode, current_episode
from examples.tau2.utils import Tau2PPOConfig
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import LLMServer, in_turn, say

PATH = "aenv.examples.tau2_rl.agent.run_agent_return_reward"
CONFIG = "aenv/examples/tau2_rl/config_1.7b_telecom.yaml"
SOLO = {"domain": "mock", "solo_mode": True}
TASK = {"task_id": "create_task_1"}
CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Important Meeting"}')
BAD_CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Lunch"}')
DONE = tool_call("done", "{}")


def rewards_of_an_episode(answers: list, **agent_config) -> list[float]:
    """The rewards of an episode's interactions, as AReaL trains on them."""
    with Proxy(in_turn(*answers), **agent_config) as proxy:
        agent = RewardFnWorkflow(PATH, SOLO, {"max_completion_tokens": 512, "temperature": 0.7})
        interactions = asyncio.run(proxy.workflow(agent).arun_episode(None, TASK)).values()
        return [round(interaction.reward, 6) for interaction in interactions]


def test_areal_trains_on_the_reward_of_the_last_turn_and_the_discount(aenv_service):
    assert rewards_of_an_episode([CREATE, DONE], turn_discount=1.0) == [1.0, 1.0]
    assert rewards_of_an_episode([CREATE, DONE], turn_discount=0.5) == [0.5, 1.0]
    assert rewards_of_an_episode([BAD_CREATE, DONE], turn_discount=1.0) == [0.0, 0.0]


def test_a_full_context_window_is_the_policys_failure(aenv_service):
    assert set(rewards_of_an_episode([CREATE], engine_max_tokens=8000)) == {0.0}


def test_sampling_arguments_of_the_config_reach_the_policy(aenv_service):
    config, _ = load_config(["--config", CONFIG], Tau2PPOConfig)
    gen_args = config.gconfig.to_openai_completions_args_dict(exclude_args=["n_samples"])
    gen_args = {key: value for key, value in gen_args.items() if value is not None}
    with LLMServer(in_turn(say(None, ("done", {})))) as policy:
        asyncio.run(RewardFnWorkflow(PATH, SOLO, gen_args).run(TASK, policy.base_url, "key"))
    expected = {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 8192}
    assert expected.items() <= policy.requests[0].items()


def test_an_episode_that_says_nothing_about_the_policy_is_rejected(aenv_service):
    with pytest.raises(EpisodeRejected, match="mock task 'nonsense': .* no task 'nonsense'"):
        asyncio.run(
            RewardFnWorkflow(PATH, SOLO).run({"task_id": "nonsense"}, "http://127.0.0.1:9", "key")
        )


def test_the_reward_is_the_outcome_that_groups_are_compared_by(aenv_service):
    episode = Episode()
    current_episode.set(episode)
    assert rewards_of_an_episode([CREATE, DONE]) == [1.0, 1.0]
    assert episode.outcome == 1.0
    current_episode.set(None)


def test_the_config_for_aenvironment_loads(aenv_service, tmp_path):
    untrained_tokenizer().save_pretrained(tmp_path / "model")
    options = [f"++cluster.fileroot={tmp_path}", f"++tokenizer_path={tmp_path}/model"]
    config, problems = load_config(["--config", CONFIG, *options], Tau2PPOConfig)
    assert config.reward_fn_path == PATH
    assert (config.gconfig.n_samples, config.gconfig.max_new_tokens) == (4, 8192)
    assert config.gconfig.temperature == config.actor.temperature == 1.0
    assert (config.eval_gconfig.temperature, config.eval_gconfig.top_p) == (0.2, 1.0)
    assert config.eval_gconfig.n_samples == 4
    assert (config.econfig.domain, config.econfig.solo_mode) == ("telecom", True)
    assert config.actor.backend == "archon:d2"
    assert problems + find_problems(config) == []


@pytest.mark.parametrize(
    "path, problem",
    [
        ("aenv.examples.tau2_rl.agent.none_such", "cannot be imported"),
        ("no.such.module.function", "cannot be imported"),
        ("json.dumps", "not an async function"),
        ("", "cannot be imported"),
    ],
)
def test_a_path_that_names_no_function(path, problem):
    (found,) = workflow.check_reward_function(path)
    assert found.startswith("reward_fn_path: ") and problem in found and repr(path) in found


def test_instances_do_not_get_tasks_files(aenv_service):
    (problem,) = workflow.check_reward_function(PATH, ["tau2/train", "/data/tasks.jsonl"])
    assert "tau2's tasks only, not /data/tasks.jsonl" in problem
    assert workflow.check_reward_function(PATH, ["tau2/train"]) == []
    with pytest.raises(EpisodeRejected, match="task /data/tasks.jsonl:3: .*not tasks_file"):
        row = {"tasks_file": "/data/tasks.jsonl", "row": 3}
        asyncio.run(RewardFnWorkflow(PATH, SOLO).run(row, "http://127.0.0.1:9", "key"))


def test_a_missing_service_is_found_before_the_launch(monkeypatch):
    monkeypatch.setenv("AENV_SYSTEM_URL", "http://127.3.2.38")
    (problem,) = workflow.check_reward_function(PATH)
    assert "no AEnvironment service answers at http://127.3.2.38:8080/health" in problem
    monkeypatch.setenv("DUMMY_INSTANCE_IP", "127.0.0.1")
    assert "unset it" in workflow.check_reward_function(PATH)[0]


def test_the_sdk_and_the_examples_are_one_package():
    assert aenv.__file__.endswith("site-packages/aenv/__init__.py") and aenv.Environment
    assert workflow.import_function(PATH).__module__ == "aenv.examples.tau2_rl.agent"
    assert json.dumps(aenv.__version__)
