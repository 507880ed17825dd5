"""Data sets of tau2 tasks."""

import pytest

from examples.tau2.dataset import task_ids, tau2_dataset


@pytest.mark.parametrize(
    "domain, path, count",
    [
        ("airline", "tau2/train", 30),
        ("airline", "tau2/test", 20),
        ("retail", "tau2/base", 114),
        ("telecom", "tau2/small", 20),
        ("telecom", "tau2/full", 2285),
        ("mock", "tau2/base", 9),
    ],
)
def test_splits_are_tau2s(domain, path, count):
    ids = task_ids(domain, path)
    assert len(ids) == len(set(ids)) == count


def test_solo_mode_keeps_the_tasks_with_a_ticket():
    assert len(task_ids("mock", "tau2/base", solo_mode=True)) == 6
    assert len(task_ids("telecom", "tau2/base", solo_mode=True)) == 114


def test_training_repeats_tasks_up_to_a_full_batch():
    rows = [row["task_id"] for row in tau2_dataset("airline", "tau2/train", full_batches_of=16)]
    assert len(rows) == 32 and rows[30:] == rows[:2]
    assert len(tau2_dataset("mock", "tau2/base", full_batches_of=24)) == 24
    assert len(tau2_dataset("airline", "tau2/train", full_batches_of=10)) == 30


def test_validation_never_repeats_a_task():
    rows = [row["task_id"] for row in tau2_dataset("airline", "tau2/test")]
    assert len(rows) == len(set(rows)) == 20


@pytest.mark.parametrize(
    "domain, path, message",
    [
        ("airline", "tau2/dev", "no split 'dev'; it has: train, test, base"),
        ("mock", "tau2/train", "no split 'train'; it has: base"),
        ("airline", "train", "not of the form tau2/<split>"),
        ("airline", "tau2/", "not of the form"),
    ],
)
def test_bad_paths(domain, path, message):
    with pytest.raises(ValueError, match=message):
        task_ids(domain, path)
