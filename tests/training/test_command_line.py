"""A command line is read as people type it, and what cannot be read is named."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from examples.tau2.training.command_line import as_hydra_override, read_command_line

HOME = "/home/ann"


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", HOME)


def value_of(override: str) -> object:
    """Read the value of an override as Hydra does."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return parsed.value()


def test_overrides_are_spelled_as_hydra_wants_them():
    override = as_hydra_override("actor.scheduling_spec[0].env_vars.A=b")
    assert override == "++actor.scheduling_spec.0.env_vars.A=b"


@pytest.mark.parametrize("argument", ["+a=1", "++a.b=[1,2]", "~a", "~a=1"])
def test_other_arguments_stay_as_they_are(argument):
    assert as_hydra_override(argument) == argument


@pytest.mark.parametrize(
    "text",
    [
        "/data/my tasks (1).jsonl",
        "/runs/step=10/model",
        "/a,b/c.jsonl",
        "/data/ü/日本.jsonl",
        "/x/#1",
        "it's",
        'say "x"',
        "'a' and 'b'",
        "\\'",
        "a\\",
        "a & b; c",
        "<model>",
        "a^b!",
        "two\nlines",
        "a]",
        "megatron:(attn:d4p2t2c2|ffn:d4p2t1e4)",
        "f(x)",
        "choice(a,b)",
    ],
)
def test_a_text_is_taken_literally_where_hydras_grammar_would_not(text):
    assert value_of(as_hydra_override(f"a.b={text}")) == text


@pytest.mark.parametrize(
    "text, value",
    [
        ("~", HOME),
        ("~/x.jsonl", f"{HOME}/x.jsonl"),
        ("~/my tasks (1)", f"{HOME}/my tasks (1)"),
        ("/a/~", "/a/~"),
        ("'~/x'", "~/x"),
    ],
)
def test_a_home_folder_is_expanded(text, value):
    assert value_of(as_hydra_override(f"a={text}")) == value


@pytest.mark.parametrize(
    "text",
    ["[1,2]", "{a: 1}", "null", "1e-3", "true", "'q'", "${b}", "a b", " a ", "", "int(3)", "10%"],
)
def test_what_hydra_can_read_means_the_same(text):
    assert as_hydra_override(f"a={text}") == f"++a={text}"


@pytest.mark.parametrize("argv", [["--config", "~/c.yaml", "a=1"], ["a=1", "--config=~/c.yaml"]])
def test_the_config_and_the_overrides_are_read_in_any_order(argv):
    expected = ["--config", f"{HOME}/c.yaml", "++a=1"]
    assert read_command_line([*argv, "--check"]) == (expected, [])


@pytest.mark.parametrize(
    "argv, problem",
    [
        (["--experiment_name=x"], "--experiment_name is no option; an override has no dashes: exp"),
        (["--seed", "1"], "--seed is no option; an override has no dashes: seed=1"),
        (["--chek"], "--chek is no option; did you mean --check?"),
        (["--check=true"], "--check=true is no option; did you mean --check?"),
        (["\N{EM DASH}check"], "\N{EM DASH}check is no option; did you mean --check?"),
        (["-config", "y.yaml"], "-config is no option; did you mean --config?"),
        (["actor.path", "=", "x"], "actor.path = x: an override is option=value, without spaces"),
        (["actor.path", "=x"], "actor.path =x: an override is option=value, without spaces"),
        (["actor.path=", "x"], "x: an override is option=value, without spaces"),
        (["actor.path"], "actor.path: an override is option=value, without spaces"),
        (["y.yaml"], "y.yaml: a config is named by --config y.yaml"),
        (["--config=y.yaml"], "--config: x.yaml and y.yaml are given; name one YAML"),
        (["a=[~/x]"], "a=[~/x]: Hydra cannot read this override (token recognition error at: '~')"),
        (["a=[1"], "a=[1: Hydra cannot read this override"),
        (["a=[1],[2]"], "a=[1],[2]: Hydra cannot read this override (it has several values)"),
        (["ä b=1"], "ä b=1: Hydra cannot read this override"),
    ],
)
def test_each_mistake_is_one_problem(argv, problem):
    (found,) = read_command_line(["--config", "x.yaml", *argv])[1]
    assert found.startswith(problem) and "\n" not in found


@pytest.mark.parametrize("argv", [[], ["--config"], ["--config=", "a=1"]])
def test_a_config_is_needed(argv):
    (problem,) = read_command_line(argv)[1]
    assert problem.startswith("--config: it is missing; name one YAML")


def test_all_mistakes_are_told():
    argv = ["--config=x.yaml", "--seed=1", "--chek", "actor.path", "=", "y", "trial_name=t"]
    arguments, problems = read_command_line(argv)
    assert arguments == ["--config", "x.yaml", "++trial_name=t"]
    assert [problem.split(":")[0] for problem in problems] == [
        "--seed is no option; an override has no dashes",
        "--chek is no option; did you mean --check?",
        "actor.path = y",
    ]


def test_blanks_around_the_equals_sign_are_allowed_within_quotes():
    assert value_of(read_command_line(["a = b"])[0][-1]) == "b"
