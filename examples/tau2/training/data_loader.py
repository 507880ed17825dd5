"""Hands out the tasks of a run, in an order that a resumed run continues exactly."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from examples.tau2.training.difficulty import draw, spread
from examples.tau2.training.groups import GroupResult


class Rows(Protocol):
    """A data set: a list, or a `Dataset` of the datasets library."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


class ResumableDataLoader:
    """The batches of a data set, each epoch in another order, like AReaL's data loaders.

    `for batch in loader` hands out each task once. Tasks are numbered as they are handed out, over
    all processes of a run. `unfinished(number)` tells whether the task of this number is still
    under way when the state is saved: a run that resumes from this state hands the task out again.

    Args:
        revisit_share: share of each batch, below 1, for tasks whose last group had mixed outcomes,
            as `learn_results` is told: see `training.difficulty`. If there are fewer such tasks,
            others take their place. The revisits make the pass over the data set longer than the
            `len(loader)` batches which AReaL counts as an epoch.
    """

    def __init__(
        self,
        dataset: Rows,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        collate: Callable[[list[Any]], Any] = list,
        revisit_share: float = 0.0,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.collate = collate
        # at least one place is for the tasks in turn
        self.revisits = min(round(revisit_share * batch_size), batch_size - 1)
        self.unfinished: Callable[[int], bool] = lambda number: False
        self.epoch = 0
        # number of tasks that this epoch has handed out, without revisits
        self.position = 0
        # number of the next task
        self.count = 0
        # numbers that an earlier process gave to the tasks that are handed out again
        self.under_way: list[int] = []
        # rows of the tasks that are still to be handed out again
        self._again: list[int] = []
        # row of each task that was handed out and may be under way, by its number
        self._handed_out: dict[int, int] = {}
        # spread of the outcomes of each row's last group
        self._spreads: dict[int, float] = {}

    def __len__(self) -> int:
        full_batches, rest = divmod(len(self.dataset), self.batch_size)
        has_short_batch = rest > 0 and not self.drop_last
        return full_batches + 1 if has_short_batch else full_batches

    def __iter__(self) -> Iterator[Any]:
        if self._again:
            again, self._again = self._again, []
            yield self._hand_out(again)
        order = list(range(len(self.dataset)))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        del order[len(self) * self.batch_size :]
        while self.position < len(order):
            upcoming = order[self.position : self.position + self.batch_size]
            revisited = self._draw_revisits(upcoming)
            in_turn = upcoming[: self.batch_size - len(revisited)]
            self.position += len(in_turn)
            yield self._hand_out(in_turn + revisited)
        self.epoch += 1
        self.position = 0

    def _draw_revisits(self, upcoming: list[int]) -> list[int]:
        excluded = {row for number, row in self._handed_out.items() if self.unfinished(number)}
        excluded.update(upcoming)
        others = {row: value for row, value in self._spreads.items() if row not in excluded}
        return draw(others, self.revisits, random.Random(f"{self.seed} revisits {self.count}"))

    def _hand_out(self, rows: list[int]) -> Any:
        for row in rows:
            self._handed_out[self.count] = row
            self.count += 1
        return self.collate([self.dataset[row] for row in rows])

    def learn_results(self, results: Iterable[GroupResult]) -> None:
        """Remember how the outcomes of groups differ, for the choice of tasks to revisit."""
        for result in results:
            row = self._handed_out.get(result.number)
            if row is not None:
                self._spreads[row] = spread(result.outcomes)

    def state_dict(self) -> dict[str, Any]:
        self._handed_out = {
            number: row for number, row in self._handed_out.items() if self.unfinished(number)
        }
        return {
            "epoch": self.epoch,
            "position": self.position,
            "count": self.count,
            "again": [*self._again, *self._handed_out.values()],
            "under_way": list(self._handed_out),
            "spreads": [list(item) for item in self._spreads.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        # states of older checkpoints have the number of batches, and no spreads
        self.position = state.get("position", state.get("batch", 0) * self.batch_size)
        self.count = state["count"]
        self._again = list(state["again"])
        self.under_way = list(state["under_way"])
        self._spreads = dict(state.get("spreads", ()))
