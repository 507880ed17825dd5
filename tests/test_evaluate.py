"""Evaluations of a scripted model behind a real HTTP server: what is measured, resumed, and counted apart."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tau2.data_model.simulation import Results
from tau2.metrics.agent_metrics import compute_metrics

from examples.tau2 import evaluate
from examples.tau2.data.dataset import task_rows
from examples.tau2.episode import environment
from tests.own_tasks import EMPTY, entry, mock_db, mock_entry, write
from tests.scripted import LLMServer, ground_truth, in_turn, say

IDS = [row["task_id"] for row in task_rows("mock", "tau2/base", True)]
TICKETS = [environment.find_task("mock", id).ticket for id in IDS]
SCRIPTS = {
    ticket: (id, ground_truth(environment.find_task("mock", id), True)[0])
    for id, ticket in zip(IDS, TICKETS, strict=True)
}
FLAKY, OTHER = [id for id, ticket in zip(IDS, TICKETS, strict=True) if TICKETS.count(ticket) == 1][
    :2
]


def model(fails=lambda id, number: False):
    """Does what is expected, but for every other episode of one task; `fails(task id, number of its call)`: HTTP 500."""
    calls: dict[str, int] = {}

    def answer(request: dict):
        if request["messages"][0]["content"] == "Say OK.":
            return say("OK")
        (id, script), *_ = (
            found
            for ticket, found in SCRIPTS.items()
            if ticket in request["messages"][0]["content"]
        )
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        calls[id] = calls.get(id, 0) + 1
        if fails(id, calls[id]):
            return 500, {"error": {"message": "overloaded"}}
        if id == FLAKY and turn == 0 and calls[id] % 3 == 1:
            return say(None, ("done", {}))
        return script[turn]

    return LLMServer(answer)


def arguments(server: LLMServer, folder: Path, *more: str) -> list[str]:
    return [
        *(
            "--domain",
            "mock",
            "--split",
            "base",
            "--solo-mode",
            "--base-url",
            server.base_url,
            "--model",
            "m",
        ),
        *("--output", str(folder), "--trials", "2", "--concurrency", "2", *more),
    ]


def lines(folder: Path) -> int:
    return len((folder / "episodes.jsonl").read_text().splitlines())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    sleep = evaluate.asyncio.sleep
    monkeypatch.setattr(evaluate.asyncio, "sleep", lambda seconds: sleep(0))


def test_what_is_measured_agrees_with_tau2(tmp_path, capsys):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path)) == 0
    printed = json.loads(capsys.readouterr().out)
    measured = json.loads((tmp_path / "summary.json").read_text())
    assert {name: value for name, value in measured.items() if name != "by_task"} == printed
    expected = compute_metrics(Results.load(tmp_path / "results.json"))
    assert printed["reward"] == expected.avg_reward
    assert {1: printed["pass^1"], 2: printed["pass^2"]} == expected.pass_hat_ks
    assert 0 < printed["pass^2"] < printed["pass^1"] < 1 and "pass^3" not in printed
    low, high = printed["pass^1_interval"]
    assert low < printed["pass^1"] < high
    assert (printed["tasks"], printed["episodes"], printed["missing"]) == (
        len(IDS),
        2 * len(IDS),
        [],
    )
    assert measured["by_task"][FLAKY]["pass^1"] < 1
    solved = [id for id in IDS if measured["by_task"][id]["pass^1"] == 1.0]
    assert measured["by_task"][solved[0]]["pass^1_interval"] == [1.0, 1.0]
    acting = sum(bool(environment.find_task("mock", id).evaluation_criteria.actions) for id in IDS)
    assert printed["expecting_actions"]["tasks"] == acting
    assert (
        sum(printed["terminations"].values()) == 2 * len(IDS)
        and printed["means"]["agent/completion_tokens"] > 0
    )


def test_finished_trials_are_never_played_again(tmp_path):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path, "--tasks", OTHER, "--trials", "1")) == 0
        assert evaluate.main(arguments(server, tmp_path)) == 0
        assert lines(tmp_path) == 2 * len(IDS)
        asked = len(server.requests)
        with (tmp_path / "episodes.jsonl").open("a") as file:
            file.write('1 {"domain": "mock", "task')  # killed while it wrote
        assert evaluate.main(arguments(server, tmp_path)) == 0
        assert len(server.requests) == asked and lines(tmp_path) == 2 * len(IDS)
        assert (
            evaluate.main(arguments(server, tmp_path, "--temperature", "1")) == 2
        )  # other settings
        assert lines(tmp_path) == 2 * len(IDS)


@pytest.mark.parametrize("options, sent", [((), "required"), (("--tool-choice", "auto"), "auto")])
def test_the_choice_of_tools_is_tau2s_or_the_given(tmp_path, options, sent):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path, "--tasks", OTHER, *options)) == 0
    assert {request["tool_choice"] for request in server.requests if "tools" in request} == {sent}


def test_failures_of_the_server_are_not_the_models(tmp_path, capsys):
    with model(fails=lambda id, number: id == OTHER) as server:
        assert evaluate.main(arguments(server, tmp_path, "--attempts", "2")) == 1
        failed = json.loads(capsys.readouterr().out)
        assert [(missing["task_id"], missing["trial"]) for missing in failed["missing"]] == [
            (OTHER, 0),
            (OTHER, 1),
        ]
        assert "overloaded" in failed["missing"][0]["cause"] and failed["tasks"] == len(IDS) - 1
    said = [
        line
        for line in evaluate.report(json.loads((tmp_path / "summary.json").read_text()))
        if "missing" in line
    ]
    assert len(said) == 1 and said[0].startswith(f"missing: task {OTHER}, trial 0 and 1 more: ")
    with model(fails=lambda id, number: id == OTHER and number == 1) as server:
        again = arguments(server, tmp_path / "again", "--attempts", "2")
        assert evaluate.main(again) == 0
        assert json.loads(capsys.readouterr().out)["tasks"] == len(IDS)


def test_who_does_not_answer_is_named_before_anything_is_played(tmp_path, capsys):
    with model() as server:
        nobody = ["--user-base-url", "http://127.0.0.1:9/v1", "--no-solo-mode"]
        assert evaluate.main(arguments(server, tmp_path, *nobody)) == 2
        assert "the user simulator does not answer: " in capsys.readouterr().err
        assert (
            evaluate.main(
                [*arguments(server, tmp_path / "m"), "--base-url", "http://127.0.0.1:9/v1"]
            )
            == 2
        )
        assert (
            "the model does not answer: " in capsys.readouterr().err and len(server.requests) == 1
        )


def test_ctrl_c_loses_nothing(tmp_path):
    script = Path(evaluate.__file__)
    with model() as server:
        command = [
            sys.executable,
            str(script),
            *arguments(server, tmp_path, "--trials", "200", "--concurrency", "1"),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        )
        while not (tmp_path / "episodes.jsonl").exists() or lines(tmp_path) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command plays the rest" in err
    measured = json.loads(out)
    assert measured["episodes"] == lines(tmp_path) >= 3
    assert (
        len(measured["missing"]) == 200 * len(IDS) - lines(tmp_path) and "more: not played" in err
    )
    assert len(Results.load(tmp_path / "results.json").simulations) == lines(tmp_path)


def test_two_at_a_time_are_refused(tmp_path, capsys):
    with model() as server, closing(evaluate.Record(tmp_path / "episodes.jsonl")):
        assert evaluate.main(arguments(server, tmp_path)) == 2
    assert "another evaluation is writing" in capsys.readouterr().err and lines(tmp_path) == 0


def test_a_training_config_gives_the_settings_and_what_differs_is_said():
    config = "examples/tau2/config_1.7b_airline.yaml"
    options = [
        "--config",
        config,
        "--base-url",
        "http://m",
        "--user-base-url",
        "http://u",
        "--max-steps",
        "50",
    ]
    plan, _ = evaluate.make_plan(options)
    assert (plan.econfig.domain, plan.econfig.user_llm_base_url, plan.econfig.max_steps) == (
        "airline",
        "http://u",
        50,
    )
    assert plan.sampling == {"temperature": 0.6, "top_p": 0.95, "max_completion_tokens": 4096}
    assert plan.training["max_steps"] == [100, 50] and plan.training["temperature"] == [1.0, 0.6]
    assert plan.training["penalty of a malformed turn"] == [0.1, 0.0]
    assert len(plan.rows) == 20


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
        (
            ["--domain", "mock", "--split", "base", "--solo-mode", "--model", "m", "--tasks", "x"],
            "--tasks x: no task",
        ),
        (["--domain", "airline", "--solo-mode", "--model", "m"], "cannot be played solo"),
        (
            ["--domain", "mock", "--split", "base", "--solo-mode", "--model", "m", "--trials", "0"],
            "--trials must be at",
        ),
        (
            ["--domain", "mock", "--solo-mode", "--model", "m", "--max-steps", "0"],
            "--max-steps must be greater than 0",
        ),
        (
            ["--domain", "mock", "--solo-mode", "--model", "m", "--timeout", "nan"],
            "--timeout must be greater than 0",
        ),
        (["--config", "none.yaml", "--model", "m"], "none.yaml"),
        (["--config", "requirements/dev.in", "--model", "m"], "requirements/dev.in"),
        (
            ["--config", "aenv/examples/tau2_rl/config_1.7b_telecom.yaml", "--model", "m"],
            "builds on another file",
        ),
    ],
)
def test_what_cannot_be_played(options, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.make_plan(options)
    assert stop.value.code == 2 and problem in capsys.readouterr().err


# -- tasks files -------------------------------------------------------------------------------------------------------


def creator() -> LLMServer:
    """Does what mock's tickets of tasks files ask for, and does nothing about those that ask for lunch."""

    def answer(request: dict):
        prompt = request["messages"][0]["content"]
        asked = re.search(r"Create the task '(.*)' for (.*)\.", prompt)
        if asked is None:
            return say("OK")
        done = any(message["role"] == "assistant" for message in request["messages"])
        if done or asked[1] == "Lunch":
            return say(None, ("done", {}))
        return say(None, ("create_task", {"user_id": asked[2], "title": asked[1]}))

    return LLMServer(answer)


def of_files(server: LLMServer, folder: Path, *files: str) -> list[str]:
    options = [
        "--domain",
        "mock",
        "--solo-mode",
        "--base-url",
        server.base_url,
        "--trials",
        "2",
        "--concurrency",
        "4",
    ]
    return [*options, "--output", str(folder), "--tasks-file", *files]


def test_tasks_files_of_one_name_with_ids_that_come_again(tmp_path, capsys):
    files = [
        write(
            tmp_path / name,
            [mock_entry("ann", title, db_path="db/a.json") for title in titles],
            a=mock_db("ann"),
        )
        for name, titles in (("one", ["Lunch", "Dinner"]), ("two", ["Dinner", "Tea"]))
    ]
    with creator() as server:
        assert evaluate.main(of_files(server, tmp_path / "out", *files)) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["tasks"], printed["episodes"], printed["pass^1"], printed["pass^2"]) == (
            4,
            8,
            0.75,
            0.75,
        )
        by_task = json.loads((tmp_path / "out/summary.json").read_text())["by_task"]
        assert {id: values["reward"] for id, values in by_task.items()} == {
            f"{files[0]}:1:mock_1": 0.0,
            f"{files[0]}:2:mock_1": 1.0,
            f"{files[1]}:1:mock_1": 1.0,
            f"{files[1]}:2:mock_1": 1.0,
        }
        results = Results.load(tmp_path / "out/results.json")
        assert len({task.id for task in results.tasks}) == 4
        assert compute_metrics(results).pass_hat_ks == {1: 0.75, 2: 0.75}
        asked = len(server.requests)
        assert evaluate.main(of_files(server, tmp_path / "out", *files)) == 0
        assert len(server.requests) == asked
        (tmp_path / "two/db/a.json").write_text(json.dumps(mock_db("ann", "bob")))
        evaluate.tasks.read.cache_clear()  # as in a new process
        assert evaluate.main(of_files(server, tmp_path / "out", *files)) == 2  # other settings


def test_a_split_and_a_file_of_another_domain_in_one_run(tmp_path, capsys):
    """Airline's tasks cannot be played solo, so a user talks."""
    path = write(
        tmp_path, [entry("airline", "0", db_path="db/empty.json")] * 2, empty=EMPTY["airline"]
    )
    user = LLMServer(
        lambda request: say(
            "###STOP###" if request["messages"][-1]["content"] == "Bye." else "Hello."
        )
    )
    with LLMServer(in_turn(say("Bye."))) as server, user:
        options = of_files(server, tmp_path / "out", path)
        options += [
            "--no-solo-mode",
            "--user-base-url",
            user.base_url,
            "--split",
            "base",
            "--trials",
            "1",
        ]
        assert evaluate.main(options) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert printed["tasks"] == 11 and {
        name: part["tasks"] for name, part in printed["by_domain"].items()
    } == {
        "airline": 2,
        "mock": 9,
    }
    assert printed["by_domain"]["airline"]["reward"] == 1.0  # to do nothing is what is expected
    assert "\nairline: 2, 2 episodes\n" in err and "11 tasks of airline and mock x 1 trials" in err
    info = Results.load(tmp_path / "out/results.json").info.environment_info
    assert info.domain_name == "airline+mock" and "airline agent" in info.policy.lower()


def test_bad_rows_are_named_before_anything_is_played(tmp_path, capsys):
    path = write(
        tmp_path, [b"{", mock_entry("ann", "Tea"), mock_entry("ann", "Tea", db_path="../a.json")]
    )
    with pytest.raises(SystemExit) as stop:
        evaluate.make_plan(
            ["--model", "m", "--domain", "mock", "--solo-mode", "--tasks-file", path]
        )
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"{path}:\n  line 1: no JSON" in said and "\n  line 3: db_path" in said
