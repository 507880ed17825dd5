"""Names that are not valid, folders without a name, models that do not exist."""

import pytest

from examples.tau2.training.checks.storage import check_storage


@pytest.mark.parametrize(
    "override, expected",
    [
        ("trial_name=a/b", "trial_name=a/b must not be empty or contain '/'"),
        ("experiment_name=''", "experiment_name= must not be empty or contain '/'"),
        ("tokenizer_path=./no/model", "tokenizer_path=./no/model is no folder"),
        (
            "tokenizer_path=''",
            "tokenizer_path is not set; give a model folder or a name on the model hub",
        ),
        (
            "cluster.name_resolve.nfs_record_root=''",
            "cluster.name_resolve.nfs_record_root is empty; name a folder",
        ),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    assert list(check_storage(airline(override))) == [expected]


def test_a_model_that_is_no_folder_is_no_tokenizer_either(airline):
    assert list(
        check_storage(airline("actor.path=./no/model", "tokenizer_path=${actor.path}"))
    ) == [
        "actor.path=./no/model is no folder",
        "tokenizer_path=./no/model is no folder",
    ]


def test_a_home_folder_in_a_yaml_is_told_once_with_what_to_write(airline, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    config = airline("actor.path='~/models/x'", "train_dataset.path='~/x.jsonl'")
    config.actor.scheduling_spec[0].env_vars = {"PYTHONPATH": "/a:~/b", "OTHER": "a~/b"}
    problem = "{}: AReaL takes ~ for the name of a folder; write {}"
    assert list(check_storage(config)) == [
        problem.format("actor.path=~/models/x", "/home/ann/models/x"),
        problem.format("actor.scheduling_spec[0].env_vars.PYTHONPATH=/a:~/b", "/a:/home/ann/b"),
    ]
