"""An evaluation by the rules of tau2-bench's leaderboard."""

import json
from importlib.util import find_spec
from io import StringIO

import pytest
from tau2.data_model.simulation import Results

from examples.tau2 import evaluate
from examples.tau2.episode import environment
from examples.tau2.evaluation.leaderboard import Leaderboard, check_rules, leaderboard_options
from examples.tau2.evaluation.options import options_parser
from examples.tau2.evaluation.settings import settings_from_options
from tests.own_tasks import entry, write
from tests.scripted import LLMServer, ground_truth, is_probe, say

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
    assert config.judge_llm == "gpt-4.1-2025-04-14" and settings.sampling == {"temperature": 0.0}
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
    options += ["--user-model", "u", "--judge-model", "j", "--tasks", "0", "--timeout", "60"]
    _, board = evaluation("--domain", "airline", *options)
    assert differences(board) == [
        "max_steps: 100, on the leaderboard 200",
        "seed: 1, on the leaderboard 300",
        "temperature: 1.0, on the leaderboard 0.0",
        "the user LLM: u, on the leaderboard gpt-5.2",
        "the user LLM's arguments: {}, on the leaderboard {'reasoning_effort': 'low'}",
        "the judge: j, on the leaderboard gpt-4.1-2025-04-14",
        "timeout: 60 s, on the leaderboard none (the default: 3600 s)",
        "trials: 2, on the leaderboard at least 4",
        "the tasks are not exactly those of the split base",
    ]


def test_of_a_tasks_file_only_equal_tasks_are_in_the_training_data(tmp_path):
    equal, other = entry("airline", "0"), entry("airline", "1")
    other["user_scenario"] = entry("airline", "2")["user_scenario"]
    path = write(tmp_path, [equal, other])
    settings, board = evaluation("--config", CONFIG, "--tasks-file", path)
    assert settings.datasets == [path] and len(settings.rows) == 2
    assert board.trained_tasks == [f"{path}:1:0"]
    assert "the tasks are not exactly those of the split base" in board.differences


def test_a_judge_on_a_server_is_not_called_as_the_leaderboards():
    settings, board = evaluation("--domain", "airline", "--judge-base-url", "http://j/v1")
    assert settings.econfig.judge_llm is None
    (difference,) = differences(board)
    assert difference.startswith("the judge: ")


def test_mock_is_no_domain_of_the_leaderboard():
    _, board = evaluation("--domain", "mock")
    assert differences(board) == ["the leaderboard has no mock"]


def airline_gold() -> tuple[LLMServer, LLMServer]:
    """Make an agent that does what airline's tasks expect, and a user that names its task."""
    tasks = environment.load_tasks("airline")

    def agent(request: dict):
        if is_probe(request):
            return say("OK")
        messages = request["messages"]
        named = next(message["content"] for message in messages if message["role"] == "user")
        turns = sum(message["role"] == "assistant" for message in messages)
        # the first message is tau2's own
        return ground_truth(tasks[named])[0][turns - 1]

    def user(request: dict):
        if is_probe(request) or any(each["role"] == "assistant" for each in request["messages"]):
            return say("###STOP###")
        prompt = request["messages"][0]["content"]
        named = next(id for id, task in tasks.items() if str(task.user_scenario) in prompt)
        return say(named)

    return LLMServer(agent), LLMServer(user)


@pytest.mark.skipif(find_spec("tau2.runner") is None, reason="needs the tau2 of a checkout")
def test_tau2s_own_commands_accept_the_folder(tmp_path, monkeypatch, capsys):
    from tau2.scripts.evaluate_trajectories import evaluate_trajectories
    from tau2.scripts.leaderboard.prepare_submission import prepare_submission, validate_submission

    agent, user = airline_gold()
    with agent, user:
        options = ["--leaderboard", "--domain", "airline", "--model", "m", "--trials", "1"]
        options += ["--base-url", agent.base_url, "--user-base-url", user.base_url]
        options += ["--user-model", "gpt-5.2", "--output", str(tmp_path / "airline")]
        assert evaluate.main(options) == 0
    assert f"tau2 submit prepare {tmp_path}/airline/results.json" in capsys.readouterr().err
    # the answers to its questions: the fifth is an address, for the others it has defaults
    monkeypatch.setattr("sys.stdin", StringIO("\n\n\n\nme@example.org\n" + 20 * "\n"))
    prepare_submission([str(tmp_path / "airline")], str(tmp_path / "submission"))
    (folder,) = (tmp_path / "submission").iterdir()
    submission = json.loads((folder / "submission.json").read_text())
    assert submission["results"]["airline"]["pass_1"] == 100.0
    assert submission["methodology"]["user_simulator"] == "gpt-5.2"
    capsys.readouterr()
    validate_submission(str(folder))
    assert "Submission metrics validation successful" in capsys.readouterr().out
    # tau2 takes a second for each
    results = Results.load(tmp_path / "airline/results.json")
    results.simulations = results.simulations[:5]
    results.save(tmp_path / "five.json")
    evaluate_trajectories([str(tmp_path / "five.json")], str(tmp_path / "again"), fresh_tasks=True)
    again = Results.load(tmp_path / "again/updated_five.json")
    assert [run.reward_info.reward for run in again.simulations] == [1.0] * 5
