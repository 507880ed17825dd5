"""`train.py` up to the start of processes; `end_to_end/test_train.py` has the rest."""

from pathlib import Path

import pytest

from examples.tau2.train import load_datasets, prepare, workflow_arguments
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.launch import ConfigError, prepare_and_run
from examples.tau2.utils import Tau2PPOConfig
from tests.own_tasks import mock_entry, write

CPU = "examples/tau2/config_cpu.yaml"
NAMES = ["experiment_name=e", "trial_name=t"]


@pytest.fixture
def cpu_config(tmp_path) -> Tau2PPOConfig:
    argv = ["--config", CPU, *NAMES, f"++cluster.fileroot={tmp_path}"]
    return load_config(argv, Tau2PPOConfig)[0]


def test_bad_rows_of_a_tasks_file_end_the_command_with_status_2(tmp_path, capfd):
    path = write(tmp_path, [mock_entry("user_1", "Lunch"), *[b"{"] * 30])
    overrides = [*NAMES, f"cluster.fileroot={tmp_path}", f"train_dataset.path={path}"]
    argv = ["--check", "--config", CPU, *overrides]
    assert prepare_and_run(argv, "", prepare, lambda seconds: None) == 2
    lines = capfd.readouterr().err.splitlines()
    problems = [line for line in lines if line.startswith("  - train_dataset.path=")]
    assert len(problems) == 21
    assert "line 21: no JSON" in problems[19] and "and 10 more bad rows" in problems[20]


def test_problems_of_options_and_of_values_are_told_together(tmp_path):
    argv = ["--config", CPU, *NAMES, f"++cluster.fileroot={tmp_path}"]
    with pytest.raises(ConfigError) as error:
        prepare([*argv, "++nonsense=1", "++econfig.max_steps=0"])
    options = ("nonsense", "econfig.max_steps=0")
    for option in options:
        assert any(problem.startswith(option) for problem in error.value.problems)


def test_training_has_full_batches_and_validation_each_task_once(cpu_config):
    training, validation = load_datasets(cpu_config)
    assert len(training) % cpu_config.train_dataset.batch_size == 0
    if validation is not None:
        assert len({str(row) for row in validation}) == len(validation)


def test_the_workflow_is_told_its_data_sets_and_sampling(cpu_config):
    sampling = cpu_config.gconfig
    arguments = workflow_arguments(cpu_config, sampling, Path("trajectories"))
    assert set(arguments) == {"econfig", "gen_args", "output_dir", "tracker", "datasets"}
    assert arguments["gen_args"]["temperature"] == sampling.temperature
    assert "n_samples" not in arguments["gen_args"]
    assert None not in arguments["gen_args"].values()
    assert arguments["datasets"][0][0] == cpu_config.train_dataset.path


def test_a_reward_function_is_told_its_path_instead(cpu_config):
    cpu_config.reward_fn_path = "a.function"
    arguments = workflow_arguments(cpu_config, cpu_config.gconfig, Path("trajectories"))
    assert set(arguments) == {"econfig", "gen_args", "output_dir", "reward_fn_path"}
