"""Environment variables with which a run cannot work."""

import pytest

from examples.tau2.training.checks.variables import check_variables


def test_variables_that_are_right_are_no_problem(airline):
    assert list(check_variables(airline())) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/gone/ca.pem"),
        ("HTTPS_PROXY", "http://proxy:port"),
        ("WANDB_API_KEY", "two words"),
        # httpx, and so AReaL, needs another package for it
        ("ALL_PROXY", "socks5://proxy:1080"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(airline, monkeypatch, name, value):
    config = airline()
    monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(name, value)
    (problem,) = check_variables(config)
    assert name in problem
