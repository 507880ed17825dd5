"""After which failures an LLM is called again, how, and after which wait."""

import asyncio

import httpx
import openai
import pytest

from examples.tau2.episode import retries
from examples.tau2.episode.failures import UnusableAnswer
from examples.tau2.episode.outage import Outage
from examples.tau2.episode.retries import MAX_UNUSABLE_ANSWERS, Retries, backoff

REFUSED_CONNECTION = openai.APIConnectionError(request=httpx.Request("POST", "http://host"))


def test_an_unusable_answer_changes_the_sampling_and_ends_in_the_end(monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    found = Retries(Outage("test"))
    assert found.allowed_after(REFUSED_CONNECTION) and found.sampling == {}
    for _ in range(MAX_UNUSABLE_ANSWERS):
        error = UnusableAnswer("empty")
        assert found.allowed_after(error) and found.last_error is error
        asyncio.run(found.pause())
    assert found.sampling == {"temperature": 1.0, "seed": None}
    assert not found.allowed_after(UnusableAnswer("empty"))


def test_a_fault_of_the_code_is_not_tried_again():
    assert not Retries(Outage("test")).allowed_after(KeyError("x"))


@pytest.mark.parametrize("attempt, longest", [(0, 0.25), (2, 1.0), (100, 10.0)])
def test_waits_double_up_to_a_limit(attempt, longest):
    assert longest / 2 <= backoff(attempt, REFUSED_CONNECTION) <= longest
