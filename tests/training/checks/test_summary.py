"""The table of `--check`."""

from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.training.checks.summary import summarize
from tests.own_tasks import public_set
from tests.tau2_bench import has_old_tasks


def test_the_table_of_a_training_run(airline):
    text = summarize(airline())
    for part in (
        "airline",
        "tau2/train: 30 tasks",
        "tau2/test: 20 tasks",
        "sglang:d6 + archon:d2",
        "http://127.0.0.1:9/v1",
    ):
        assert part in text


def test_tasks_files_of_several_domains(airline, tmp_path):
    path = public_set(tmp_path)
    filtered = ["valid_dataset.path=tau2/test", "valid_dataset.dataset_kwargs.min_actions=1"]
    text = summarize(airline(f"train_dataset.path={path}", *filtered))
    assert f"{path}: 4 tasks (airline 2, retail 1, mock 1), 16 a batch" in text
    assert "tau2/test: 18 tasks, 32 a batch" in text
    assert "domain  airline, retail, mock (user simulator" in text


def test_a_run_under_slurm_without_validation(airline):
    lines = summarize(airline("scheduler.type=slurm", "valid_dataset=null")).splitlines()
    assert "  validation  none" in lines
    assert "       queue  `squeue --me` shows which jobs wait for nodes" in lines


def test_the_tau2_that_is_played(airline):
    assert f"        tau2  {tau2_source(['airline'])}" in summarize(airline()).splitlines()


@has_old_tasks
def test_tasks_whose_gold_is_known_to_be_wrong(airline):
    (line,) = [line for line in summarize(airline()).splitlines() if "wrong gold" in line]
    assert "tau2/train: airline 7 9 14 23 27 33 38, tau2/test: airline 2 29 35 37 44;" in line
    assert "set TAU2_DATA_DIR" in line and "dataset_kwargs.exclude" in line
    without = [
        "valid_dataset=null",
        "train_dataset.dataset_kwargs.exclude=[7,9,14,23,27,33,38]",
    ]
    assert "wrong gold" not in summarize(airline(*without))
