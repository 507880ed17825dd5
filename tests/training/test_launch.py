"""A command line becomes a run, or a list of problems."""

import pytest

from examples.tau2.training.launch import (
    ConfigError,
    PreparedRun,
    as_hydra_override,
    prepare_and_run,
)


def no_deadline(seconds: float) -> None:
    raise AssertionError(seconds)


def test_overrides_are_spelled_as_hydra_wants_them():
    override = as_hydra_override("actor.scheduling_spec[0].env_vars.A=b=c")
    assert override == "++actor.scheduling_spec.0.env_vars.A=b=c"


@pytest.mark.parametrize("argument", ["--config", "+a=1", "~a", "x.yaml"])
def test_other_arguments_stay_as_they_are(argument):
    assert as_hydra_override(argument) == argument


def test_problems_are_listed_and_nothing_is_launched(capsys):
    def prepare(argv: list[str]) -> PreparedRun:
        raise ConfigError(["one", "two"])

    assert prepare_and_run([], "", prepare, no_deadline) == 2
    assert capsys.readouterr().err == "Nothing was launched:\n  - one\n  - two\n"


def test_a_prepared_run_is_run_with_its_deadline(capsys):
    done = []
    prepared = PreparedRun("the summary", 7.0, lambda: done.append("run"))
    assert prepare_and_run(["a=1"], "", lambda argv: prepared, done.append) == 0
    assert done == [7.0, "run"]
    assert capsys.readouterr().out == "the summary\n"


def test_check_prints_the_summary_only(capsys):
    given = []

    def prepare(argv: list[str]) -> PreparedRun:
        given.extend(argv)
        return PreparedRun("the summary", 7.0, lambda: given.append("run"))

    assert prepare_and_run(["--check", "a=1"], "", prepare, no_deadline) == 0
    assert given == ["++a=1"]
    assert capsys.readouterr().out == "the summary\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option, capsys):
    def prepare(argv: list[str]) -> PreparedRun:
        raise AssertionError(argv)

    assert prepare_and_run([option], "what it does", prepare, no_deadline) == 0
    assert capsys.readouterr().out == "what it does\n"
