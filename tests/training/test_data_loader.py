"""The order of tasks in a resumed run: AReaL's faults, which ours does not have; and revisits."""

import json
from collections.abc import Iterable
from itertools import islice

import pytest
from areal.api.cli_args import TrainDatasetConfig
from areal.utils.data import cycle_dataloader
from areal.utils.dataloader import create_dataloader

from examples.tau2.training.data_loader import ResumableDataLoader
from examples.tau2.training.groups import GroupResult

DATASET = [f"task {row}" for row in range(10)]


def our_loader(**state) -> ResumableDataLoader:
    loader = ResumableDataLoader(DATASET, batch_size=3, shuffle=True, drop_last=False, seed=1)
    if state:
        loader.load_state_dict(state)
    return loader


def areals_loader():
    config = TrainDatasetConfig(path="unused", type="rl", batch_size=2, shuffle=True, num_workers=0)
    return create_dataloader(DATASET, rank=0, world_size=1, dataset_config=config, collate_fn=list)


def first_tasks(batches: Iterable[list[str]], number: int) -> list[str]:
    """The tasks of the first `number` batches."""
    tasks: list[str] = []
    for batch in islice(batches, number):
        tasks += batch
    return tasks


def tasks_of_epochs(loader: ResumableDataLoader, epochs: int) -> list[str]:
    tasks: list[str] = []
    for _ in range(epochs):
        for batch in loader:
            tasks += batch
    return tasks


def test_every_epoch_has_every_task_once_in_an_order_of_its_own():
    loader = our_loader()
    first, second = tasks_of_epochs(loader, 1), tasks_of_epochs(loader, 1)
    assert first != second and sorted(first) == sorted(second) == sorted(DATASET)
    assert len(loader) == 4
    loader.drop_last = True
    assert len(loader) == 3 and len(tasks_of_epochs(loader, 1)) == 9


def test_areals_loader_goes_on_in_the_order_of_the_first_epoch():
    loader = areals_loader()
    done = first_tasks(cycle_dataloader(loader), 7)
    resumed = areals_loader()
    resumed.load_state_dict(loader.state_dict())
    second_epoch = done[10:] + first_tasks(cycle_dataloader(resumed), 3)
    assert sorted(second_epoch) != sorted(DATASET)
    assert second_epoch[4:] == done[4:10]


@pytest.mark.parametrize("batches", range(9))
def test_our_loader_goes_on_where_it_was(batches):
    expected = tasks_of_epochs(our_loader(), 4)
    loader = our_loader()
    done = first_tasks(cycle_dataloader(loader), batches)
    state = json.loads(json.dumps(loader.state_dict()))
    rest = tasks_of_epochs(our_loader(**state), 4)
    assert done + rest[: len(expected) - len(done)] == expected


def test_tasks_that_were_under_way_come_again_first():
    loader = our_loader()
    done = tasks_of_epochs(loader, 1)
    loader.unfinished = lambda number: number in (2, 9)
    state = loader.state_dict()
    resumed = our_loader(**state)
    assert next(iter(resumed)) == [done[2], done[9]]
    # not handed out yet when the next checkpoint is written
    assert our_loader(**state).state_dict() == {**state, "under_way": []}
    # numbers go on, so that they name groups of the whole run
    assert resumed.under_way == [2, 9] and resumed.count == 12
    resumed.unfinished = lambda number: number == 11
    assert next(iter(our_loader(**resumed.state_dict()))) == [done[9]]


def test_a_checkpoint_from_before_the_revisits_is_read():
    loader = our_loader()
    done = first_tasks(cycle_dataloader(loader), 6)
    state = loader.state_dict()
    del state["spreads"]
    state["batch"] = state.pop("position") // 3
    assert done + tasks_of_epochs(our_loader(**state), 1) == tasks_of_epochs(our_loader(), 2)


# -- revisits ------------------------------------------------------------------------------------


def revisiting_loader(share: float = 0.5, **state) -> ResumableDataLoader:
    loader = ResumableDataLoader(
        range(100), batch_size=4, shuffle=True, drop_last=True, seed=1, revisit_share=share
    )
    if state:
        loader.load_state_dict(state)
    return loader


def play(batches: Iterable[list[int]], loader: ResumableDataLoader, number: int) -> list[list[int]]:
    """Play the first batches: of a task below 20, half of the episodes are solved."""
    played = []
    for batch in islice(batches, number):
        first = loader.count - len(batch)
        loader.learn_results(
            GroupResult(first + index, [1.0, float(task >= 20)], accepted=task < 20)
            for index, task in enumerate(batch)
        )
        played.append(batch)
    return played


def test_tasks_with_mixed_outcomes_come_more_often_and_all_others_in_turn():
    loader = revisiting_loader()
    batches = play(cycle_dataloader(loader), loader, 400)
    assert all(len(set(batch)) == len(batch) <= 4 for batch in batches)
    tasks = [task for batch in batches for task in batch]
    counts = [tasks.count(task) for task in range(100)]
    # half of the 1,600 places go to all tasks in turn, 8 to each; the others to 20 tasks
    assert set(counts[20:]) <= {7, 8, 9}
    assert sum(counts[:20]) > 900 and min(counts[:20]) > 30
    # AReaL counts its epochs as before
    assert len(loader) == 25


@pytest.mark.parametrize("share", [0.0, 0.99])
def test_every_epoch_has_every_task_whatever_the_share(share):
    loader = revisiting_loader(share)
    batches = play(loader, loader, 1000)
    assert {task for batch in batches for task in batch} == set(range(100))
    assert (len(batches) == 25) == (share == 0)


def test_a_task_under_way_is_not_revisited_before_its_result_is_known():
    loader = revisiting_loader()
    batches = iter(loader)
    known = {task for batch in play(batches, loader, 10) for task in batch}
    first = loader.count
    loader.unfinished = lambda number: number >= first
    later = [task for batch in batches for task in batch]
    assert known & set(later) and len(set(later)) == len(later)


@pytest.mark.parametrize("batches", [1, 30, 70])
def test_revisits_go_on_where_they_were(batches):
    whole = revisiting_loader()
    expected = play(cycle_dataloader(whole), whole, 100)
    loader = revisiting_loader()
    done = play(cycle_dataloader(loader), loader, batches)
    resumed = revisiting_loader(**json.loads(json.dumps(loader.state_dict())))
    rest = play(cycle_dataloader(resumed), resumed, 100 - batches)
    assert done + rest == expected


def test_a_revisit_under_way_comes_again():
    loader = revisiting_loader()
    (*_, last) = play(cycle_dataloader(loader), loader, 40)
    loader.unfinished = lambda number: number >= 156
    resumed = revisiting_loader(**loader.state_dict())
    assert next(iter(resumed)) == last
