"""Secret keys in options."""

import pytest

from examples.tau2.training.checks.keys import check_keys


@pytest.mark.parametrize(
    "option, variable",
    [
        ("rollout.agent.admin_api_key", "TAU2_PROXY_ADMIN_API_KEY"),
        ("stats_logger.wandb.wandb_api_key", "WANDB_API_KEY"),
        ("stats_logger.swanlab.api_key", "SWANLAB_API_KEY"),
        ("econfig.user_llm_args.api_key", "TAU2_USER_LLM_API_KEY"),
        ("econfig.judge_llm_args.api_key", "TAU2_JUDGE_LLM_API_KEY"),
    ],
)
def test_a_key_belongs_into_an_environment_variable(airline, option, variable):
    (problem,) = check_keys(airline(f"{option}=mine"))
    assert problem.startswith(f"{option} would be saved with the config")
    assert f"set the environment variable {variable}" in problem


def test_a_key_in_the_environment_is_no_problem(airline, monkeypatch):
    monkeypatch.setenv("SWANLAB_API_KEY", "mine")
    assert list(check_keys(airline())) == []
