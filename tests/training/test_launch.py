"""A command line becomes a run, or a list of problems."""

import pytest

from examples.tau2.training.launch import ConfigError, PreparedRun, prepare_and_run

CONFIG = ["--config", "x.yaml"]


def no_deadline(seconds: float) -> None:
    raise AssertionError(seconds)


def test_problems_are_listed_and_nothing_is_launched(capsys):
    def prepare(argv: list[str]) -> PreparedRun:
        raise ConfigError(["one", "two"])

    assert prepare_and_run(CONFIG, "", prepare, no_deadline) == 2
    assert capsys.readouterr().err == "Nothing was launched:\n  - one\n  - two\n"


def test_a_prepared_run_is_run_with_its_deadline(capsys):
    done = []
    prepared = PreparedRun("the summary", 7.0, lambda: done.append("run"))
    assert prepare_and_run([*CONFIG, "a=1"], "", lambda argv: prepared, done.append) == 0
    assert done == [7.0, "run"]
    assert capsys.readouterr().out == "the summary\n"


def test_check_prints_the_summary_only(capsys):
    given = []

    def prepare(argv: list[str]) -> PreparedRun:
        given.extend(argv)
        return PreparedRun("the summary", 7.0, lambda: given.append("run"))

    assert prepare_and_run(["--check", *CONFIG, "a=1"], "", prepare, no_deadline) == 0
    assert given == [*CONFIG, "++a=1"]
    assert capsys.readouterr().out == "the summary\n"


def test_a_command_line_with_problems_is_not_prepared(capsys):
    def prepare(argv: list[str]) -> PreparedRun:
        raise AssertionError(argv)

    assert prepare_and_run([*CONFIG, "--chek"], "", prepare, no_deadline) == 2
    expected = "Nothing was launched:\n  - --chek is no option; did you mean --check?\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option, capsys):
    def prepare(argv: list[str]) -> PreparedRun:
        raise AssertionError(argv)

    assert prepare_and_run([option], "what it does", prepare, no_deadline) == 0
    assert capsys.readouterr().out == "what it does\n"
