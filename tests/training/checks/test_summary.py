"""The table of `--check`."""

from examples.tau2.training.checks.summary import summarize
from tests.own_tasks import public_set


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
