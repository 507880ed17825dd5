"""Allocations that are not valid, and those that do not use exactly the cluster's GPUs."""

import pytest

from examples.tau2.training.checks.allocation import check_allocation


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "cluster.n_nodes=3",
            "rollout.backend=sglang:d6 take 8 GPUs, "
            "but cluster.n_nodes=3 times cluster.n_gpus_per_node=8 is 24",
        ),
        ("cluster.n_gpus_per_node=0", "times cluster.n_gpus_per_node=0 is 0"),
        ("actor.backend=archon:x9", "actor.backend='archon:x9' is no allocation"),
        ("actor.backend=sglang:d2", "actor needs one of archon, megatron, fsdp"),
        ("actor.optimizer.type=adam_bf16", "actor.backend=archon:d2 does not have it; take adam"),
        (
            "train_dataset.batch_size=15",
            "train_dataset.batch_size=15 cannot be shared out among the 2 data-parallel workers",
        ),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    (problem,) = check_allocation(airline(override))
    assert expected in problem


def test_an_allocation_that_uses_all_gpus(airline):
    assert list(check_allocation(airline())) == []
