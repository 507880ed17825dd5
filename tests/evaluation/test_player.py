"""Playing the trials of an evaluation, with a model that fails now and then."""

import asyncio
from contextlib import closing

import pytest

from examples.tau2 import evaluate
from examples.tau2.episode import environment
from examples.tau2.evaluation.player import play_missing
from examples.tau2.evaluation.settings import TrialKey, settings_from_options
from examples.tau2.evaluation.store import TrialStore
from tests.scripted import LLMServer, ground_truth, is_probe, say

TASK_ID = "create_task_1"


def play(folder, answer, trials: int = 2) -> tuple[dict[TrialKey, str], list[TrialKey]]:
    """Play trials of one task, two attempts at each; return what failed and what is stored."""
    with LLMServer(answer) as server, closing(TrialStore(folder / "episodes.jsonl")) as store:
        options = ["--domain", "mock", "--split", "base", "--solo-mode", "--tasks", TASK_ID]
        options += ["--base-url", server.base_url, "--trials", str(trials)]
        settings = settings_from_options(evaluate.options_parser().parse_args(options))
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
