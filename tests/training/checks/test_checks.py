"""All checks together: they list all problems at once, and pure checks only read."""

import pytest

from examples.tau2.training.checks import CHECKS, find_problems
from examples.tau2.training.checks.loading import load_config
from examples.tau2.utils import Tau2PPOConfig
from tests.scripted import LLMServer, in_turn, say


@pytest.fixture
def user_llm():
    with LLMServer(in_turn(say("OK."))) as server:
        yield f"econfig.user_llm_base_url={server.base_url}"


def test_a_good_config_has_no_problems(airline, user_llm):
    assert find_problems(airline(user_llm)) == []


def test_all_problems_are_told_at_once(airline, user_llm):
    wrong = [
        "econfig.max_steps=0",
        "train_dataset.path=x",
        "cluster.n_nodes=2",
        "gconfig.temperature=9",
        "actor.temperature=9",
    ]
    assert len(find_problems(airline(user_llm, *wrong))) == 4


@pytest.mark.parametrize(
    "override",
    [
        "econfig.domain=bank",
        "econfig.max_steps=0",
        "actor.temperature=0.5",
        "sglang.context_length=4096",
        "actor.backend=archon:x9",
        "actor.path=/path/to/model",
        "trial_name=a/b",
        "scheduler.type=none",
        "rollout.agent.mode=subproc",
        "stats_logger.wandb.wandb_api_key=mine",
        "actor.backend=megatron:d2 actor.megatron.async_save=true",
        "econfig.user_llm_args.stream=true",
        "cluster.fileroot=/proc/nowhere",
        "reward_fn_path=json.dumps",
        "stats_logger.wandb.mode=online",
        "econfig.user_llm_base_url=http://127.0.0.1:9/v1",
    ],
)
def test_each_check_and_each_probe_is_in_the_sequence(airline, user_llm, override):
    assert find_problems(airline(user_llm, *override.split())) != []


def test_unknown_options_wrong_types_missing_names_and_the_rest_are_told_at_once(
    airline_argv, user_llm
):
    wrong = ["econfig.max_step=1", "econfig.max_steps=many", "nonsense.a=1", "trial_name=???"]
    rest = ["cluster.n_nodes=2", "econfig.turn_discount=0.9", "rollout.agent.turn_discount=0.5"]
    config, problems = load_config(airline_argv(user_llm, *wrong, *rest), Tau2PPOConfig)
    problems += find_problems(config)
    expected = [
        *(override.split("=")[0] for override in wrong),
        "rollout.agent.turn_discount",
        "actor.backend",
    ]
    for option in expected:
        assert any(problem.startswith(option) for problem in problems), (option, problems)
    assert len(problems) == len(expected)


def test_pure_checks_write_nothing_and_call_no_llm(airline, tmp_path):
    config = airline(f"cluster.fileroot={tmp_path}/not/yet")
    for check in CHECKS:
        assert list(check(config)) == []
    assert list(tmp_path.iterdir()) == []


def test_checks_and_probes_leave_nothing_on_the_disk(airline, user_llm, tmp_path):
    find_problems(airline(user_llm, f"cluster.fileroot={tmp_path}/not/yet"))
    assert list(tmp_path.iterdir()) == []
