"""Playing the trials of an evaluation, with a model that fails now and then."""

import asyncio
import json
from contextlib import closing

import pytest

from examples.tau2 import evaluate
from examples.tau2.episode import environment
from examples.tau2.evaluation.player import MAX_EQUAL_FAILURES, play_missing
from examples.tau2.evaluation.settings import EvaluationSettings, TrialKey, settings_from_options
from examples.tau2.evaluation.store import TrialStore
from tests.own_tasks import mock_entry, write
from tests.scripted import LLMServer, ground_truth, is_probe, say

TASK_ID = "create_task_1"


def made(*options: str) -> EvaluationSettings:
    return settings_from_options(evaluate.options_parser().parse_args(options))


def play(folder, answer, *more: str, trials: int = 2) -> tuple[dict[TrialKey, str], list[TrialKey]]:
    """Play trials of one task, two attempts at each; return what failed and what is stored."""
    with LLMServer(answer) as server, closing(TrialStore(folder / "episodes.jsonl")) as store:
        options = ["--domain", "mock", "--split", "base", "--solo-mode", "--tasks", TASK_ID]
        options += ["--base-url", server.base_url, "--trials", str(trials), *more]
        settings = made(*options)
        failures = asyncio.run(play_missing(settings, store, concurrency=1, attempts=2))
        return failures, list(store.trials)


def model(failing_calls: set[int]):
    """Make an `answer` that solves the task, but fails these calls, counted from 1."""
    agent, _ = ground_truth(environment.find_task("mock", TASK_ID), solo_mode=True)
    calls = 0

    def answer(request: dict):
        nonlocal calls
        if is_probe(request):
            return say("OK")
        calls += 1
        if calls in failing_calls:
            return 500, {"error": {"message": "overloaded"}}
        return agent[sum(message["role"] == "assistant" for message in request["messages"])]

    return answer


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))


def test_a_trial_that_fails_once_is_played_again(tmp_path):
    failures, stored = play(tmp_path, model({1}))
    assert failures == {} and stored == [TrialKey(TASK_ID, 0), TrialKey(TASK_ID, 1)]


def test_a_trial_that_always_fails_is_missing_and_the_others_are_played(tmp_path):
    failures, stored = play(tmp_path, model({1, 2}))
    assert list(failures) == [TrialKey(TASK_ID, 0)] and stored == [TrialKey(TASK_ID, 1)]
    assert "overloaded" in failures[TASK_ID, 0]


def test_only_missing_trials_are_played(tmp_path):
    play(tmp_path, model(set()), trials=1)
    # the model answers the two calls of one trial, and no more
    failures, stored = play(tmp_path, model({3, 4, 5, 6}), trials=2)
    assert failures == {} and stored == [TrialKey(TASK_ID, 0), TrialKey(TASK_ID, 1)]


def refusing(status: int, message: str, *, from_call: int = 1):
    """Make a model that refuses all calls of episodes from a number on; it answers the probe."""
    solve, calls = model(set()), []

    def answer(request: dict):
        calls.append(is_probe(request))
        if calls.count(False) >= from_call and not is_probe(request):
            return status, {"error": {"message": f"{message} (request {len(calls)})"}}
        return solve(request)

    return answer, calls


def test_equal_refusals_end_the_evaluation_after_a_few(tmp_path):
    answer, calls = refusing(402, "no credits", from_call=3)
    failures, stored = play(tmp_path, answer, trials=20)
    # one trial has two calls; a refused trial gets one
    assert len(stored) == 1 and len(calls) == 1 + 2 + MAX_EQUAL_FAILURES
    causes = list(failures.values())
    assert len(causes) == 19 and all("no credits" in cause for cause in causes[:5])
    assert set(causes[5:]) == {"not played, after 5 equal failures in a row"}


def test_a_trial_that_succeeds_between_failures_keeps_the_evaluation_going(tmp_path):
    # every second trial is refused at its first call
    solve, calls = model(set()), []

    def answer(request: dict):
        calls.append(request)
        if len(calls) % 3 == 1 and not is_probe(request):
            return 400, {"error": {"message": "filtered"}}
        return solve(request)

    calls.append({})
    failures, stored = play(tmp_path, answer, trials=16)
    assert len(failures) == len(stored) == 8


@pytest.mark.parametrize(
    "status, message, option, hint",
    [
        (400, "temperature must be 1", (), "--temperature, or leave it out with --llm-args"),
        (422, "no such field: top_k", ("--llm-args", '{"top_k": 5}'), """'{"top_k": null}'"""),
        (400, "thinking must be off", (), "--llm-args adds, changes or removes arguments"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice', (), "--enable-auto-tool"),
        (400, "tool_choice required is not supported", (), "--tool-choice auto"),
        (
            401,
            "wrong key",
            (),
            "401: wrong key; set the server's key in the environment: OPENAI_API_KEY",
        ),
    ],
)
def test_what_the_probe_meets_is_told_with_the_option_that_helps(
    tmp_path, status, message, option, hint
):
    def answer(request):
        assert request["tools"] and request["tool_choice"] == "required"
        return status, {"error": {"message": message}}

    with pytest.raises(ConnectionError, match="the model does not answer") as caught:
        play(tmp_path, answer, *option)
    assert hint in str(caught.value)


def knows_max_tokens_only(request: dict):
    if "max_completion_tokens" in request:
        return 422, {"detail": "max_completion_tokens: extra inputs are not permitted"}
    assert request["max_tokens"] == 512
    return model(set())(request)


def test_a_server_that_does_not_know_max_completion_tokens_gets_max_tokens(tmp_path):
    limit = ("--max-completion-tokens", "512")
    failures, stored = play(tmp_path, knows_max_tokens_only, *limit)
    assert failures == {} and len(stored) == 2
    renamed = ("--llm-args", '{"max_completion_tokens": null, "max_tokens": 512}')
    failures, stored = play(tmp_path / "renamed", knows_max_tokens_only, *limit, *renamed)
    assert failures == {} and len(stored) == 2


def test_arguments_of_ones_own_are_sent_and_null_is_not(tmp_path):
    requests = []

    def answer(request: dict):
        requests.append(request)
        return model(set())(request)

    args = {"temperature": None, "top_k": 5, "extra_body": {"enable_thinking": False}}
    play(tmp_path, answer, "--llm-args", json.dumps(args), "--model", "openai/Qwen/Qwen3-4B")
    for request in requests:
        assert "temperature" not in request
        assert (request["top_k"], request["enable_thinking"]) == (5, False)
        assert request["model"] == "Qwen/Qwen3-4B"


def test_the_calls_of_a_trial_have_the_seed_that_tau2_draws_for_it(tmp_path):
    def agent(request: dict):
        if not is_probe(request):
            seeds.add(("agent", request.get("seed")))
        return say("Bye.")

    def user(request: dict):
        said = request["messages"][-1]["content"]
        if not is_probe(request):
            seeds.add(("user", request.get("seed")))
        return say("###STOP###" if said == "Bye." else "Hello.")

    with LLMServer(user) as server:
        options = ["--no-solo-mode", "--user-base-url", server.base_url, "--seed", "300"]
        seeds: set[tuple[str, int | None]] = set()
        play(tmp_path / "drawn", agent, *options)
        drawn = (626729, 373753)
        assert seeds == {(side, seed) for side in ("agent", "user") for seed in drawn}
        seeds.clear()
        given = ["--llm-args", '{"seed": null}', "--user-llm-args", '{"seed": 5}']
        play(tmp_path / "given", agent, *options, *given)
        assert seeds == {("agent", None), ("user", 5)}


def test_an_unusable_answer_of_the_user_is_not_asked_for_again_with_its_seed(tmp_path):
    answers = iter([say("OK"), say(""), say("###STOP###")])
    with LLMServer(lambda request: next(answers)) as user:
        options = ["--no-solo-mode", "--user-base-url", user.base_url, "--seed", "300"]
        play(tmp_path, model(set()), *options, trials=1)
    _, first, second = user.requests
    assert (first["seed"], second.get("seed"), second["temperature"]) == (626729, None, 1.0)


def test_a_judge_is_asked_first_if_a_task_needs_one(tmp_path):
    task = mock_entry("user_1", "Lunch")
    criteria = json.loads(task["evaluation_criteria"])
    criteria |= {"nl_assertions": ["The agent is polite."], "reward_basis": ["NL_ASSERTION"]}
    task["evaluation_criteria"] = json.dumps(criteria)
    options = ["--domain", "mock", "--solo-mode", "--tasks-file", write(tmp_path, [task])]
    with pytest.raises(ValueError, match="tasks .*:1:mock_1: name the judge by --judge-model"):
        made(*options, "--model", "m")
    with LLMServer(lambda request: (401, {"error": {"message": "wrong key"}})) as judge:
        options += ["--judge-base-url", judge.base_url]
        with LLMServer(model(set())) as server, closing(TrialStore(tmp_path / "e.jsonl")) as store:
            settings = made(*options, "--base-url", server.base_url)
            with pytest.raises(ConnectionError, match="the judge does not answer") as caught:
                asyncio.run(play_missing(settings, store, concurrency=1, attempts=1))
    assert "wrong key; set the server's key in the environment: TAU2_JUDGE" in str(caught.value)
