"""Tasks that need a judge, and judges that cannot be asked."""

import json
from collections.abc import Callable

import pytest

from examples.tau2.training.checks import CHECKS, PROBES
from examples.tau2.training.checks.judge import check_judge
from examples.tau2.training.checks.probes import probe_judge_llm
from examples.tau2.training.checks.summary import summarize
from examples.tau2.utils import Tau2PPOConfig
from tests.own_tasks import mock_entry, write
from tests.scripted import LLMServer, in_turn, say

JUDGED = json.dumps({"reward_basis": ["NL_ASSERTION"], "nl_assertions": ["The agent is kind."]})
MET = {"expectedOutcome": "The agent is kind.", "reasoning": "", "metExpectation": True}


@pytest.fixture
def judged(airline, tmp_path) -> Callable[..., Tau2PPOConfig]:
    """`judged(*overrides)`: a config whose tasks to train on are of a file; one needs a judge."""
    entries = [
        mock_entry("user_1", "Lunch", id="kind", evaluation_criteria=JUDGED),
        mock_entry("user_1", "Lunch", id="quick"),
    ]
    path = write(tmp_path / "own", entries)
    return lambda *overrides: airline(f"train_dataset.path={path}", *overrides)


def test_tasks_that_need_a_judge_are_named(judged):
    (problem,) = check_judge(judged())
    assert problem.startswith("econfig.judge_llm is not set")
    assert "of train_dataset: kind; name a model" in problem
    for remedy in (
        "econfig.judge_llm=gpt-4.1",
        "econfig.judge_llm_base_url=http://j/v1",
        "train_dataset.dataset_kwargs.exclude=[kind]",
        # what is wrong with the data set is told elsewhere
        "train_dataset.path=tau2/dev",
        "econfig.domain=bank",
    ):
        assert list(check_judge(judged(remedy))) == []


def test_tasks_without_assertions_need_no_judge(airline):
    assert list(check_judge(airline())) == []


def test_arguments_that_the_judge_does_not_take(judged):
    wrong = judged("econfig.judge_llm=gpt-4.1", "econfig.judge_llm_args.stream=true")
    assert list(check_judge(wrong)) == ["econfig.judge_llm_args: it must not set stream"]
    assert list(probe_judge_llm(wrong)) == []


def test_a_judge_that_judges(judged):
    arguments = "econfig.judge_llm_args={response_format: {type: json_object}}"
    with LLMServer(in_turn(say(json.dumps({"results": [MET]})))) as server:
        config = judged(f"econfig.judge_llm_base_url={server.base_url}", arguments)
        assert list(probe_judge_llm(config)) == []
    (request,) = server.requests
    assert request["response_format"] == {"type": "json_object"}
    (row,) = [line for line in summarize(config).splitlines() if line.strip().startswith("judge")]
    assert row == f"       judge  default at {server.base_url}, for 1 tasks of train_dataset"


@pytest.mark.parametrize(
    "answer, cause",
    [
        ((401, {"error": {"message": "who are you"}}), "401: who are you"),
        (say("OK."), "no verdicts can be read in 'OK.'"),
        (say('{"results": []}'), "0 verdicts on 1 assertions"),
    ],
)
def test_a_judge_that_does_not_judge(judged, answer, cause):
    with LLMServer(in_turn(answer)) as server:
        (problem,) = probe_judge_llm(judged(f"econfig.judge_llm_base_url={server.base_url}"))
    assert problem.startswith(f"the judge default at {server.base_url} does not answer")
    assert cause in problem and "set econfig.judge_llm" in problem
    assert len(server.requests) == 1


def test_the_judge_is_checked_and_probed_with_all_else():
    assert check_judge in CHECKS and probe_judge_llm in PROBES


def test_a_judge_is_not_called_without_need(airline, judged):
    unused = "econfig.judge_llm_base_url=http://127.0.0.1:9/v1"
    assert list(probe_judge_llm(airline(unused))) == []
    placeholder = "econfig.judge_llm_base_url='http://<host>:8000/v1'"
    assert list(probe_judge_llm(judged(placeholder))) == []
    assert len(list(probe_judge_llm(judged(unused)))) == 1
