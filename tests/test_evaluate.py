"""The command evaluate.py with a scripted model behind a real HTTP server."""

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tau2.data_model.simulation import Results, TerminationReason
from tau2.metrics.agent_metrics import compute_metrics

from examples.tau2 import evaluate
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks_file import read_tasks_file
from examples.tau2.episode import environment
from examples.tau2.evaluation.store import TrialStore
from examples.tau2.viewer.report_page import write_report
from tests.hub import forget, lunches, running_hub
from tests.own_tasks import EMPTY, entry, mock_db, mock_entry, write
from tests.scripted import LLMServer, ground_truth, in_turn, say
from tests.waiting import until

TASKS = [
    environment.find_task("mock", row["task_id"]) for row in task_rows("mock", "tau2/base", True)
]
IDS = [task.id for task in TASKS]
TASK_OF_TICKET = {task.ticket: task for task in TASKS}
# two tasks that share their ticket with no other task
FLAKY, OTHER = "update_task_1", "impossible_task_1"


def model(fails=lambda task_id, number: False) -> LLMServer:
    """Make a model that solves every task, but fails every other episode of FLAKY.

    It answers a call with HTTP 500 if `fails(task id, number of the task's calls)` says so.
    """
    calls: Counter[str] = Counter()

    def answer(request: dict):
        prompt = request["messages"][0]["content"]
        if prompt == "Say OK.":
            return say("OK")
        task = next(task for ticket, task in TASK_OF_TICKET.items() if ticket in prompt)
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        calls[task.id] += 1
        if fails(task.id, calls[task.id]):
            return 500, {"error": {"message": "overloaded"}}
        if task.id == FLAKY and turn == 0 and calls[task.id] % 3 == 1:
            return say(None, ("done", {}))
        agent, _ = ground_truth(task, solo_mode=True)
        return agent[turn]

    return LLMServer(answer)


def arguments(server: LLMServer, folder: Path, *more: str) -> list[str]:
    options = ["--domain", "mock", "--split", "base", "--solo-mode", "--model", "m"]
    options += ["--base-url", server.base_url, "--output", str(folder)]
    return [*options, "--trials", "2", "--concurrency", "2", *more]


def lines(folder: Path) -> int:
    return len((folder / "episodes.jsonl").read_text().splitlines())


def has_played(folder: Path, trials: int) -> bool:
    return (folder / "episodes.jsonl").exists() and lines(folder) >= trials


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))


def test_what_is_measured_agrees_with_tau2(tmp_path, capsys):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path)) == 0
    printed = json.loads(capsys.readouterr().out)
    measured = json.loads((tmp_path / "summary.json").read_text())
    by_task = measured.pop("by_task")
    failures_by_task = measured.pop("failures_by_task")
    assert failures_by_task["update_task_1"] == {"unsolved": 1, "missing_write": 1}
    assert measured == printed
    expected = compute_metrics(Results.load(tmp_path / "results.json"))
    assert printed["reward"] == expected.avg_reward
    assert {1: printed["pass^1"], 2: printed["pass^2"]} == expected.pass_hat_ks
    assert 0 < printed["pass^2"] < printed["pass^1"] < 1 and "pass^3" not in printed
    low, high = printed["pass^1_interval"]
    assert low < printed["pass^1"] < high
    assert (printed["tasks"], printed["episodes"]) == (len(IDS), 2 * len(IDS))
    assert printed["missing"] == []
    assert by_task[FLAKY]["pass^1"] < 1
    solved = [task_id for task_id in IDS if by_task[task_id]["pass^1"] == 1.0]
    assert by_task[solved[0]]["pass^1_interval"] == [1.0, 1.0]
    acting = [task for task in TASKS if task.evaluation_criteria.actions]
    assert printed["expecting_actions"]["tasks"] == len(acting)
    assert sum(printed["terminations"].values()) == 2 * len(IDS)
    assert printed["means"]["agent/completion_tokens"] > 0
    tokens = printed["means"]["agent/prompt_tokens"] * printed["episodes"]
    assert printed["usage"]["agent"]["prompt_tokens"] == pytest.approx(tokens)
    assert "user" not in printed["usage"]


def test_tickets_that_this_project_completes_are_counted(tmp_path, capsys):
    refuel = "[mms_issue]break_app_both_permissions|data_usage_exceeded[PERSONA:Hard]"
    other = "[mobile_data_issue]data_usage_exceeded|user_abroad_roaming_enabled_off[PERSONA:Easy]"
    with LLMServer(in_turn(say(None, ("done", {})))) as server:
        words = arguments(server, tmp_path, "--domain", "telecom", "--tasks", refuel, other)
        assert evaluate.main(words) == 0
    assert "tickets of solo mode that this project completes: 1 " in capsys.readouterr().err


def test_two_evaluations_are_compared(tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    with model() as server:
        assert evaluate.main(arguments(server, a, "--tasks", OTHER, FLAKY)) == 0
        shorter = arguments(server, b, "--tasks", OTHER, "--max-steps", "1")
        assert evaluate.main(shorter) == 0
    capsys.readouterr()
    assert evaluate.main(["--compare", str(a), str(b)]) == 0
    out, err = capsys.readouterr()
    compared = json.loads(out)
    assert compared["settings"] == {"econfig.max_steps": [100, 1]}
    assert compared["by_task"] == {OTHER: {"pairs": 2, "solved_a": 2, "solved_b": 0}}
    assert compared["only_a"] == 2 and "B - A    -1.000" in err
    assert evaluate.main(["--compare", str(a), str(tmp_path)]) == 2
    assert f"{tmp_path} has no settings.json" in capsys.readouterr().err


def test_finished_trials_are_never_played_again(tmp_path):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path, "--tasks", OTHER, "--trials", "1")) == 0
        assert evaluate.main(arguments(server, tmp_path)) == 0
        assert lines(tmp_path) == 2 * len(IDS)
        asked = len(server.requests)
        # a process is killed while it writes a line
        with (tmp_path / "episodes.jsonl").open("a") as file:
            file.write('1 {"domain": "mock", "task')
        assert evaluate.main(arguments(server, tmp_path)) == 0
        assert len(server.requests) == asked and lines(tmp_path) == 2 * len(IDS)
        # another temperature makes other settings
        assert evaluate.main(arguments(server, tmp_path, "--temperature", "1")) == 2
        assert lines(tmp_path) == 2 * len(IDS)


@pytest.mark.parametrize("options, sent", [((), "required"), (("--tool-choice", "auto"), "auto")])
def test_the_tool_choice_is_tau2s_or_that_of_the_option(tmp_path, options, sent):
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path, "--tasks", OTHER, *options)) == 0
    assert {request["tool_choice"] for request in server.requests if "tools" in request} == {sent}


def test_failures_of_the_server_do_not_count_as_the_models(tmp_path, capsys):
    with model(fails=lambda task_id, number: task_id == OTHER) as server:
        assert evaluate.main(arguments(server, tmp_path, "--attempts", "2")) == 1
        out, err = capsys.readouterr()
        again = arguments(server, tmp_path, "--attempts", "2", "--missing-as-failures")
        assert evaluate.main(again) == 1
    counted = json.loads(capsys.readouterr().out)
    failed = json.loads(out)
    missing = [(trial["task_id"], trial["trial"]) for trial in failed["missing"]]
    assert missing == [(OTHER, 0), (OTHER, 1)]
    assert "overloaded" in failed["missing"][0]["cause"] and failed["tasks"] == len(IDS) - 1
    how_counted, cause = [line for line in err.splitlines() if line.startswith("missing")]
    assert how_counted == "missing trials: 2, left out; see --missing-as-failures"
    assert cause.startswith(f"missing: task {OTHER}, trial 0 and 1 more: ")
    assert counted["missing_as_failures"] and counted["missing"] == failed["missing"]
    assert counted["tasks"] == len(IDS) and counted["episodes"] == 2 * len(IDS)
    assert counted["pass^1"] * len(IDS) == pytest.approx(failed["pass^1"] * (len(IDS) - 1))
    assert counted["terminations"] == failed["terminations"]
    written = Results.load(tmp_path / "results.json")
    assert compute_metrics(written).avg_reward == failed["reward"]
    reasons = [simulation.termination_reason.value for simulation in written.simulations]
    # only tau2-bench's own package has this reason
    in_format = "infrastructure_error" in list(TerminationReason)
    assert reasons.count("infrastructure_error") == (2 if in_format else 0)
    with model(fails=lambda task_id, number: task_id == OTHER and number == 1) as server:
        again = arguments(server, tmp_path / "again", "--attempts", "2")
        assert evaluate.main(again) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == len(IDS)


def test_a_server_that_does_not_answer_is_named_before_anything_is_played(tmp_path, capsys):
    nowhere = "http://127.0.0.1:9/v1"
    with model() as server:
        no_user = arguments(server, tmp_path, "--user-base-url", nowhere, "--no-solo-mode")
        assert evaluate.main(no_user) == 2
        assert "the user simulator does not answer: " in capsys.readouterr().err
        no_model = arguments(server, tmp_path / "m", "--base-url", nowhere)
        assert evaluate.main(no_model) == 2
        assert "the model does not answer: " in capsys.readouterr().err
        assert len(server.requests) == 1


@pytest.mark.processes
def test_ctrl_c_loses_nothing(tmp_path):
    with model() as server:
        options = arguments(server, tmp_path, "--trials", "200", "--concurrency", "1")
        process = subprocess.Popen(
            [sys.executable, str(Path(evaluate.__file__)), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        try:
            until(lambda: has_played(tmp_path, 3) or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 130 and "the same command plays the rest" in err
    measured = json.loads(out)
    played = lines(tmp_path)
    assert measured["episodes"] == played >= 3
    assert len(measured["missing"]) == 200 * len(IDS) - played and "more: not played" in err
    assert len(Results.load(tmp_path / "results.json").simulations) == played


def test_a_full_disk_ends_the_evaluation_and_loses_nothing(tmp_path, capsys):
    options = ("--concurrency", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with model() as server:
        assert evaluate.main(arguments(server, tmp_path, "--trials", "1", *options)) == 0
        played = lines(tmp_path)
        size = (tmp_path / "episodes.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            assert evaluate.main(arguments(server, tmp_path, *options)) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert f"{tmp_path}: No space left" in capsys.readouterr().err
        assert lines(tmp_path) == played
        assert evaluate.main(arguments(server, tmp_path)) == 0
    assert lines(tmp_path) == 2 * len(IDS)


def test_a_second_evaluation_in_the_same_folder_is_refused(tmp_path, capsys):
    with model() as server, closing(TrialStore(tmp_path / "episodes.jsonl")):
        assert evaluate.main(arguments(server, tmp_path)) == 2
    assert "another evaluation is writing" in capsys.readouterr().err and lines(tmp_path) == 0


def creator() -> LLMServer:
    """Make a model that does what the tickets of a tasks file ask for, unless it is lunch."""

    def answer(request: dict):
        prompt = request["messages"][0]["content"]
        asked = re.search(r"Create the task '(.*)' for (.*)\.", prompt)
        if asked is None:
            return say("OK")
        title, user = asked.groups()
        done = any(message["role"] == "assistant" for message in request["messages"])
        if done or title == "Lunch":
            return say(None, ("done", {}))
        return say(None, ("create_task", {"user_id": user, "title": title}))

    return LLMServer(answer)


def of_files(server: LLMServer, folder: Path, *files: str) -> list[str]:
    options = ["--domain", "mock", "--solo-mode", "--base-url", server.base_url]
    options += ["--trials", "2", "--concurrency", "4", "--output", str(folder)]
    return [*options, "--tasks-file", *files]


def lunch_file(folder: Path, *titles: str) -> str:
    """Write a tasks file of mock whose tasks all have the same id."""
    entries = [mock_entry("ann", title, db_path="db/a.json") for title in titles]
    return write(folder, entries, a=mock_db("ann"))


def test_tasks_files_of_the_same_name_with_the_same_ids(tmp_path, capsys):
    one = lunch_file(tmp_path / "one", "Lunch", "Dinner")
    two = lunch_file(tmp_path / "two", "Dinner", "Tea")
    with creator() as server:
        assert evaluate.main(of_files(server, tmp_path / "out", one, two)) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["tasks"], printed["episodes"]) == (4, 8)
        assert (printed["pass^1"], printed["pass^2"]) == (0.75, 0.75)
        by_task = json.loads((tmp_path / "out/summary.json").read_text())["by_task"]
        assert {task_id: values["reward"] for task_id, values in by_task.items()} == {
            f"{one}:1:mock_1": 0.0,
            f"{one}:2:mock_1": 1.0,
            f"{two}:1:mock_1": 1.0,
            f"{two}:2:mock_1": 1.0,
        }
        results = Results.load(tmp_path / "out/results.json")
        assert len({task.id for task in results.tasks}) == 4
        assert compute_metrics(results).pass_hat_ks == {1: 0.75, 2: 0.75}
        asked = len(server.requests)
        assert evaluate.main(of_files(server, tmp_path / "out", one, two)) == 0
        assert len(server.requests) == asked
        (tmp_path / "two/db/a.json").write_text(json.dumps(mock_db("ann", "bob")))
        # a new process reads the files again
        read_tasks_file.cache_clear()
        # another database makes other settings
        assert evaluate.main(of_files(server, tmp_path / "out", one, two)) == 2


def test_a_tasks_file_of_the_hub(tmp_path, capsys, monkeypatch):
    file = "hf://datasets/ann/lunches/tasks.jsonl"
    with creator() as server, running_hub(tmp_path / "cache", monkeypatch) as hub:
        commit = hub.commit("ann/lunches", lunches("Dinner", "Lunch"))
        assert evaluate.main(of_files(server, tmp_path / "out", file)) == 0
        name = f"hf://datasets/ann/lunches@{commit}/tasks.jsonl"
        summary = json.loads((tmp_path / "out/summary.json").read_text())
        assert list(summary["by_task"]) == [f"{name}:1:mock_1", f"{name}:2:mock_1"]
        settings = json.loads((tmp_path / "out/settings.json").read_text())
        assert list(settings["tasks_files"]) == [name]
        # no file names the cache
        for written in (tmp_path / "out").iterdir():
            assert str(tmp_path / "cache") not in written.read_text()
        write_report(tmp_path / "out", None, 4)
        assert str(tmp_path / "cache") not in (tmp_path / "out/report.html").read_text()
        hub.commit("ann/lunches", lunches("Tea"))
        forget()
        # another commit makes other settings
        assert evaluate.main(of_files(server, tmp_path / "out", file)) == 2
        assert evaluate.main(of_files(server, tmp_path / "out", name)) == 0
        capsys.readouterr()
        with pytest.raises(SystemExit):
            evaluate.main(of_files(server, tmp_path / "out", f"{file}.gz"))
        assert "--tasks-file: the URL of a file on the hub is" in capsys.readouterr().err


def test_a_split_and_a_file_of_another_domain_in_one_evaluation(tmp_path, capsys):
    """Airline's tasks cannot be played solo, so a user talks."""
    entries = [entry("airline", "0", db_path="db/empty.json")] * 2
    path = write(tmp_path, entries, empty=EMPTY["airline"])

    def user_says(request: dict) -> dict:
        leaves = request["messages"][-1]["content"] == "Bye."
        return say("###STOP###" if leaves else "Hello.")

    with LLMServer(in_turn(say("Bye."))) as server, LLMServer(user_says) as user:
        options = of_files(server, tmp_path / "out", path)
        options += ["--no-solo-mode", "--user-base-url", user.base_url]
        options += ["--split", "base", "--trials", "1"]
        assert evaluate.main(options) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    by_domain = printed["by_domain"]
    mock_tasks = len(environment.load_tasks("mock"))
    assert printed["tasks"] == 2 + mock_tasks
    assert {domain: part["tasks"] for domain, part in by_domain.items()} == {
        "airline": 2,
        "mock": mock_tasks,
    }
    # airline's task expects no action
    assert by_domain["airline"]["reward"] == 1.0
    assert "\nairline: 2, 2 episodes\n" in err
    assert f"{2 + mock_tasks} tasks of airline and mock x 1 trials" in err
    info = Results.load(tmp_path / "out/results.json").info.environment_info
    assert info.domain_name == "airline+mock" and "airline agent" in info.policy.lower()
