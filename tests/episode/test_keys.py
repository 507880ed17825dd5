"""Tests for examples.tau2.episode.keys: keys as they come from files."""

import pytest

from examples.tau2.episode.keys import key_problems, strip_keys


def test_white_space_around_keys_is_removed_and_an_empty_key_is_not_set():
    environ = {
        "OPENAI_API_KEY": "sk-mine\n",
        "TAU2_USER_LLM_API_KEY": " \r\n",
        "HF_TOKEN": "\thf_mine ",
        "HOME": "/home/me ",
    }
    strip_keys(environ)
    assert environ == {"OPENAI_API_KEY": "sk-mine", "HF_TOKEN": "hf_mine", "HOME": "/home/me "}


@pytest.mark.parametrize(
    ("key", "flaw"),
    [
        ("sk-mi\nne", "white space or control characters within the key"),
        ("Bearer sk-mine", "white space"),
        ("sk-mi\x00ne", "control characters"),
        ("sk-mi\u00e9ne", "not ASCII"),
        ("sk\u2013mine", "not ASCII"),
        ("\ufeffsk-mine", "white space or control characters"),
        ('"sk-mine"', "quotes"),
        ("'sk-mine'", "quotes"),
    ],
)
def test_a_key_that_cannot_be_sent_is_named_but_not_shown(key, flaw):
    [problem] = key_problems({"ANTHROPIC_API_KEY": key, "OPENAI_API_KEY": "sk-good"})
    assert problem.startswith("ANTHROPIC_API_KEY has ") and flaw in problem
    assert "mine" not in problem
