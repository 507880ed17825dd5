"""A run names its data sets on the hub by their commits, also when it resumes."""

import getpass
from copy import deepcopy

import pytest
from areal.api.cli_args import save_config

from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.checks.summary import summarize
from examples.tau2.training.launch import ConfigError
from examples.tau2.training.pinned_data import pin_data_sets
from examples.tau2.utils import Tau2PPOConfig
from tests.hub import forget, lunches, running_hub

TASKS = "hf://datasets/ann/lunches/tasks.jsonl"
OF = "hf://datasets/ann/{}@{}/tasks.jsonl".format


def test_a_run_and_the_run_that_resumes_it_have_one_commit(airline_argv, tmp_path, monkeypatch):
    argv = airline_argv(f"train_dataset.path={TASKS}", f"valid_dataset.path={TASKS}")
    named, _ = load_config(argv, Tau2PPOConfig)

    def resumed_path(named_path: str, recover: str = "on") -> str:
        """Pin the data sets in a new process, and return the path of the training set."""
        forget()
        config = deepcopy(named)
        config.train_dataset.path = named_path
        config.recover.mode = recover
        pin_data_sets(config)
        return config.train_dataset.path

    with running_hub(tmp_path / "cache", monkeypatch) as hub:
        first = hub.commit("ann/lunches", lunches("Lunch"))
        overrides = pin_data_sets(config := deepcopy(named))
        assert f"{OF('lunches', first)}: 1 tasks" in summarize(config)
        assert load_config([*argv, *overrides], Tau2PPOConfig) == (config, [])
        # nothing is written before the run starts, and AReaL saves its config then
        assert not (tmp_path / "logs").exists()
        save_config(config, tmp_path / "logs" / getpass.getuser() / "e/t")
        second = hub.commit("ann/lunches", lunches("Lunch", "Dinner"))
        other = hub.commit("ann/dinners", lunches("Dinner"))
        for path in (TASKS, OF("lunches", "main")):
            assert resumed_path(path) == OF("lunches", first)
            assert resumed_path(path, recover="off") == OF("lunches", second)
        assert resumed_path(OF("lunches", second)) == OF("lunches", second)
        assert resumed_path(OF("dinners", "main")) == OF("dinners", other)


def test_every_data_set_that_the_hub_does_not_give_is_named(airline, tmp_path, monkeypatch):
    config = airline("train_dataset.path=hf://ann/x.json", f"valid_dataset.path={TASKS}")
    with running_hub(tmp_path / "cache", monkeypatch), pytest.raises(ConfigError) as error:
        pin_data_sets(config)
    train, valid = error.value.problems
    assert train.startswith("train_dataset.path=hf://ann/x.json: the URL of a file on the hub is")
    assert valid.startswith(f"valid_dataset.path={TASKS}: http://127.0.0.1")
