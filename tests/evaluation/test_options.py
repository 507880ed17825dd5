"""The options of evaluate.py as the command gets them."""

from pathlib import Path

from examples.tau2.evaluation.options import options_parser


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    options = options_parser().parse_args(["--config=~/x.yaml", "--output=~/x"])
    assert options.config == Path("/home/ann/x.yaml") and options.output == Path("/home/ann/x")
