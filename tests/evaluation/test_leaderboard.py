"""An evaluation by the rules of tau2-bench's leaderboard."""

from examples.tau2.evaluation.leaderboard import Leaderboard, check_rules, leaderboard_options
from examples.tau2.evaluation.options import options_parser
from examples.tau2.evaluation.settings import settings_from_options

CONFIG = "examples/tau2/config_1.7b_airline.yaml"


def evaluation(*given: str):
    options = options_parser().parse_args(["--leaderboard", "--model", "m", *given])
    settings = settings_from_options(leaderboard_options(options))
    return settings, check_rules(settings, options.config)


def differences(board: Leaderboard) -> list[str]:
    """List the differences that do not depend on which tau2 is installed."""
    own = ("the package: ", "tasks of an older tau2-bench")
    return [line for line in board.differences if not line.startswith(own)]


def test_without_other_options_an_evaluation_is_as_on_the_leaderboard():
    settings, board = evaluation("--domain", "airline")
    config = settings.econfig
    assert len(settings.rows) == 50 and settings.num_trials == 4 and settings.seed == 300
    assert (config.max_steps, config.solo_mode) == (200, False)
    assert (config.user_llm, config.user_llm_args) == ("gpt-5.2", {"reasoning_effort": "low"})
    assert settings.sampling == {"temperature": 0.0}
    assert differences(board) == [] and board.trained_tasks == []


def test_what_a_training_config_tells_is_what_the_model_was_trained_on():
    settings, board = evaluation("--config", CONFIG)
    assert settings.domains == ["airline"] and settings.sampling == {"temperature": 0.0}
    assert settings.econfig.user_llm == "gpt-5.2" and settings.econfig.user_llm_base_url is None
    trained = "the model was trained for airline, on tau2/train: 30 of 50 tasks are in its"
    (difference,) = differences(board)
    assert difference.startswith(trained) and board.submission_type == "custom"
    assert len(board.trained_tasks) == 30 and "0" in board.trained_tasks
    assert "  tasks that the model was trained on: 0 1" in list(board.lines())[-1]


def test_each_point_that_differs_is_named():
    options = ["--trials", "2", "--max-steps", "100", "--temperature", "1", "--seed", "1"]
    options += ["--user-model", "u", "--tasks", "0"]
    _, board = evaluation("--domain", "airline", *options)
    assert differences(board) == [
        "max_steps: 100, on the leaderboard 200",
        "seed: 1, on the leaderboard 300",
        "temperature: 1.0, on the leaderboard 0.0",
        "the user LLM: u, on the leaderboard gpt-5.2",
        "the user LLM's arguments: {}, on the leaderboard {'reasoning_effort': 'low'}",
        "trials: 2, on the leaderboard at least 4",
        "the tasks are not all those of base, and no others",
    ]
