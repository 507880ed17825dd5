"""The settings of an evaluation, made of the command's options."""

from dataclasses import asdict

import pytest

from examples.tau2 import evaluate
from examples.tau2.episode.tau2_data import data_digest, tau2_source
from examples.tau2.evaluation.settings import EvaluationSettings, settings_from_options
from tests.own_tasks import mock_entry, write

SOLO = ["--domain", "mock", "--solo-mode", "--model", "m"]
SOLO_BASE = [*SOLO, "--split", "base"]
AENV_CONFIG = "aenv/examples/tau2_rl/config_1.7b_telecom.yaml"


def settings(*options: str) -> EvaluationSettings:
    return settings_from_options(evaluate.options_parser().parse_args(options))


def test_a_training_config_gives_the_settings_and_what_differs_is_known():
    config = ["--config", "examples/tau2/config_1.7b_airline.yaml"]
    servers = ["--base-url", "http://m", "--user-base-url", "http://u"]
    found = settings(*config, *servers, "--max-steps", "50")
    assert (found.econfig.domain, found.econfig.max_steps) == ("airline", 50)
    assert found.econfig.user_llm_base_url == "http://u"
    assert found.sampling == {"temperature": 0.6, "top_p": 0.95, "max_completion_tokens": 4096}
    differences = found.training_differences
    assert differences["max_steps"] == (100, 50) and differences["temperature"] == (1.0, 0.6)
    assert differences["penalty of a malformed turn"] == (0.1, 0.0)
    assert len(found.rows) == 20


def test_the_config_of_the_aenvironment_variant_is_read_with_what_it_builds_on():
    found = settings("--config", AENV_CONFIG, "--model", "m")
    assert (found.econfig.domain, found.econfig.solo_mode) == ("telecom", True)
    assert found.sampling == {"temperature": 0.2, "top_p": 1.0, "max_completion_tokens": 8192}
    assert found.training_differences["tool_choice"] == ("auto", "required")


def test_the_identity_depends_on_what_is_played_and_not_on_which_tasks():
    all_tasks, one_task = settings(*SOLO_BASE), settings(*SOLO_BASE, "--tasks", "create_task_1")
    assert list(one_task.rows) == ["create_task_1"] and len(all_tasks.rows) > 1
    assert one_task.identity() == all_tasks.identity()
    assert one_task.folder_name() == all_tasks.folder_name()
    others = [
        settings(*SOLO_BASE, *more)
        for more in (
            ("--temperature", "1"),
            ("--model", "n"),
            ("--llm-args", '{"top_k": 5}'),
            ("--llm-args", '{"temperature": null}'),
            ("--seed", "300"),
            ("--user-llm-args", '{"temperature": 0.5}'),
            ("--judge-model", "j"),
            ("--judge-llm-args", '{"temperature": 0.5}'),
        )
    ]
    names = {found.folder_name() for found in [all_tasks, *others]}
    assert len(names) == 9 and all(name.startswith("mock-") for name in names)


def test_tasks_are_left_out_by_id_and_stay_in_the_same_folder():
    first = settings(*SOLO_BASE)
    fewer = settings(*SOLO_BASE, "--exclude", "create_task_1")
    assert first.rows.keys() - fewer.rows.keys() == {"create_task_1"}
    assert fewer.folder_name() == first.folder_name()
    with pytest.raises(ValueError, match="--exclude: there is no task 'gone'"):
        settings(*SOLO_BASE, "--exclude", "gone")


def test_a_task_that_is_left_out_needs_to_be_in_one_of_the_data_sets_only(tmp_path):
    path = write(
        tmp_path, [mock_entry("user_1", "Tea"), mock_entry("user_1", "Lunch", id="mock_2")]
    )
    options = [*SOLO_BASE, "--tasks-file", path]
    fewer = settings(*options, "--exclude", "mock_1", "create_task_1")
    assert settings(*options).rows.keys() - fewer.rows.keys() == {
        f"{path}:1:mock_1",
        "create_task_1",
    }
    with pytest.raises(ValueError, match="--exclude: there is no task 'x', 'y'"):
        settings(*options, "--exclude", "x", "mock_1", "y")


def test_the_identity_has_the_data_and_the_server_of_a_provider(monkeypatch):
    first = settings(*SOLO_BASE)
    identity = first.identity()
    assert (identity["tau2"], identity["data"]) == (
        asdict(tau2_source(["mock"])),
        {"mock": data_digest("mock")},
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:secret@gateway/v1")
    moved = settings(*SOLO_BASE)
    assert moved.identity()["provider_servers"] == {"OPENAI_BASE_URL": "http://gateway/v1"}
    served = settings(*SOLO_BASE, "--base-url", "http://m")
    assert "provider_servers" not in served.identity()


@pytest.mark.parametrize(
    "options, problem",
    [
        (["--domain", "nowhere", "--base-url", "u"], "--domain nowhere: choose one of airline"),
        (["--domain", "mock"], "name the model"),
        (["--domain", "airline", "--model", "m"], "name the user simulator"),
        (
            ["--domain", "airline", "--split", "dev", "--model", "m", "--user-model", "u"],
            "tau2/dev: domain airline has",
        ),
        ([*SOLO_BASE, "--tasks", "x"], "--tasks x: no task"),
        (["--domain", "airline", "--solo-mode", "--model", "m"], "cannot be played solo"),
        ([*SOLO_BASE, "--trials", "0"], "--trials must be at"),
        ([*SOLO_BASE, "--llm-args", '{"stream": true}'], "--llm-args: it must not set stream"),
        ([*SOLO_BASE, "--llm-args", '{"extra_body": {"model": "x"}}'], "extra_body must not set"),
        ([*SOLO_BASE, "--llm-args", '{"extra_headers": [1]}'], "extra_headers must be an object"),
        ([*SOLO_BASE, "--llm-args", '{"timeout": "5"}'], "timeout must be a number of seconds"),
        ([*SOLO_BASE, "--llm-args", '{"api_key": "k"}'], "set the provider's own, such as"),
        (
            [*SOLO_BASE, "--base-url", "u", "--llm-args", '{"extra_query": {"key": "k"}}'],
            "extra_query.key would be saved with the results; set OPENAI_API_KEY instead",
        ),
        (
            [*SOLO_BASE, "--llm-args", '{"extra_headers": {"x-goog-api-key ": "k"}}'],
            "extra_headers.x-goog-api-key  would be saved",
        ),
        (
            [*SOLO_BASE, "--user-llm-args", '{"extra_headers": {"Authorization": "k"}}'],
            "extra_headers.Authorization would be saved with the results; set TAU2_USER_LLM",
        ),
        ([*SOLO_BASE, "--judge-llm-args", '{"api_key": "k"}'], "set TAU2_JUDGE_LLM_API_KEY"),
        ([*SOLO, "--max-steps", "0"], "--max-steps must be greater than 0"),
        ([*SOLO, "--timeout", "nan"], "--timeout must be greater than 0"),
        (["--config", "none.yaml", "--model", "m"], "none.yaml"),
        (["--config", "requirements/dev.in", "--model", "m"], "requirements/dev.in"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(options)
    assert stop.value.code == 2 and problem in capsys.readouterr().err


def test_bad_rows_are_named_before_anything_is_played(tmp_path, capsys):
    bad_database = mock_entry("ann", "Tea", db_path="../a.json")
    path = write(tmp_path, [b"{", mock_entry("ann", "Tea"), bad_database])
    with pytest.raises(SystemExit) as stop:
        evaluate.main([*SOLO, "--tasks-file", path])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"{path}:\n  line 1: no JSON" in said and "\n  line 3: db_path" in said


def test_arguments_on_the_command_line_add_to_those_of_the_training_config():
    config = ["--config", "examples/tau2/config_1.7b_airline.yaml", "--base-url", "http://m"]
    args = ["--llm-args", '{"top_p": null, "top_k": 5}', "--user-llm-args", '{"temperature": null}']
    found = settings(*config, "--user-base-url", "http://u", *args)
    sent = {name: value for name, value in found.sampling.items() if value is not None}
    assert sent == {"temperature": 0.6, "max_completion_tokens": 4096, "top_k": 5}
    assert found.econfig.user_llm_args == {"temperature": None, "max_completion_tokens": 512}


@pytest.mark.parametrize("text", ["{", "[1]", "5"])
def test_arguments_that_are_no_json_object_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        settings(*SOLO_BASE, "--llm-args", text)
    assert "no JSON" in capsys.readouterr().err
