"""Problems that only a try can show: of folders, reward function, login, and user LLM."""

import socket

import pytest

from examples.tau2.training.checks.probes import (
    probe_output_folders,
    probe_reward_function,
    probe_user_llm,
    probe_wandb_login,
)
from tests.scripted import LLMServer, in_turn, say


@pytest.mark.parametrize(
    "option, folder",
    [
        ("cluster.fileroot", "/proc/nowhere"),
        ("cluster.name_resolve.nfs_record_root", "/proc/x"),
    ],
)
def test_a_folder_that_cannot_be_written(airline, option, folder):
    problems = list(probe_output_folders(airline(f"{option}={folder}")))
    assert any(problem.startswith(f"{option}={folder} cannot be written") for problem in problems)


def test_a_probe_leaves_no_folder(airline, tmp_path):
    config = airline(f"cluster.fileroot={tmp_path}/not/yet")
    assert list(probe_output_folders(config)) == []
    assert list(tmp_path.iterdir()) == []


def test_placeholders_are_not_written(airline):
    config = airline("cluster.fileroot=/path/to/storage")
    assert list(probe_output_folders(config)) == []


def test_a_reward_function_that_does_not_exist(airline):
    assert list(probe_reward_function(airline())) == []
    (problem,) = probe_reward_function(airline("reward_fn_path=json.dumps"))
    assert problem.startswith("reward_fn_path: ")


def test_online_tracking_needs_a_login(airline, monkeypatch):
    online = airline("stats_logger.wandb.mode=online")
    (problem,) = probe_wandb_login(online)
    assert problem.startswith("stats_logger.wandb.mode=online needs a login: set WANDB_API_KEY")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert list(probe_wandb_login(online)) == []


def test_trackers_that_need_no_login(airline):
    config = airline("stats_logger.wandb.mode=offline", "stats_logger.trackio.mode=local")
    assert list(probe_wandb_login(config)) == []


def test_a_user_llm_that_answers(airline):
    with LLMServer(in_turn(say("OK."))) as server:
        url = f"econfig.user_llm_base_url={server.base_url}"
        assert list(probe_user_llm(airline(url))) == []
        assert list(probe_user_llm(airline(url, "econfig.user_llm=null"))) == []


def test_a_user_llm_is_not_called_without_need(airline):
    for override in (
        "econfig.solo_mode=true",
        "econfig.user_llm_args.stream=true",
        "econfig.user_llm_base_url='http://<host>:8000/v1'",
    ):
        assert list(probe_user_llm(airline(override))) == []


def test_a_server_that_is_not_there(airline):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    (problem,) = probe_user_llm(airline(f"econfig.user_llm_base_url=http://127.0.0.1:{port}/v1"))
    assert "does not answer" in problem and "econfig.user_llm_base_url" in problem


def test_a_server_that_refuses_the_key(airline):
    with LLMServer(in_turn((401, {"error": {"message": "who are you"}}))) as refusing:
        (problem,) = probe_user_llm(airline(f"econfig.user_llm_base_url={refusing.base_url}"))
    assert "401" in problem and "API key" in problem


@pytest.mark.parametrize("answer", [say(""), {"object": "error"}, b"<html>log in</html>"])
def test_an_answer_of_no_use(airline, answer):
    with LLMServer(in_turn(answer)) as server:
        (problem,) = probe_user_llm(airline(f"econfig.user_llm_base_url={server.base_url}"))
    assert "does not answer" in problem
