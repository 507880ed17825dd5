"""The toolkits of episodes: tau2's own classes over a private database, with a few changes."""

import functools
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any, ClassVar

from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.toolkit import GenericToolKit, ToolKitBase
from tau2.utils import get_dict_hash

from examples.tau2.episode.database import FrozenDB, plain


class PrivateToolkit(ToolKitBase):
    """A mixin for a domain's toolkit class: `db` is a private view of a frozen database.

    Args:
        stock: the toolkit that the domain makes. Its attributes are taken over, except its `db`;
            dicts, lists and sets are copied, because a tool may write to them.
        frozen: the database of which `db` becomes a view.
    """

    # the toolkits of tau2's domains narrow the type of `db` in the same way
    # pyrefly: ignore[bad-override-mutable-attribute]
    db: DB
    # the names of the class's tools, once they are known
    _names: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, stock: ToolKitBase, frozen: FrozenDB):
        for name, value in vars(stock).items():
            is_state = isinstance(value, dict | list | set)
            setattr(self, name, deepcopy(value) if is_state else value)
        self.frozen = frozen
        self.db = frozen.view()

    @property
    def tools(self) -> dict[str, Callable]:
        """The tools by name.

        tau2 collects the names from all base classes, twice for each call. This class collects
        them once.
        """
        if self._names is None:
            type(self)._names = tuple(super().tools)
        return {name: getattr(self, name) for name in self._names or ()}

    def use_tool(self, tool_name: str, **arguments: Any) -> str:
        """Call a tool, and return its result as the text that the environment makes of it.

        tau2's environment also logs the text, and would make it twice for a model.
        """
        return Environment.to_json_str(plain(super().use_tool(tool_name, **arguments)))

    def get_db_hash(self) -> str:
        """Hash what differs from the frozen database; like tau2's, equal for equal databases.

        tau2 1.0.1 gives the user's tools the agent's database, of another class, where a task
        changes that database.
        """
        if type(self.db) is not self.frozen.model:
            return super().get_db_hash()
        return get_dict_hash(self.frozen.changes(self.db))

    def update_db(self, update_data: dict | None = None) -> None:
        """Update the database as tau2 does.

        tau2 dumps and validates the whole database. Afterwards the database is no view.
        """
        fields = {name: plain(value) for name, value in self.db}
        self.db = type(self.db).model_construct(None, **fields)
        super().update_db(update_data)


@cache
def toolkit_class(domain_class: type[ToolKitBase], thinking_tool: bool) -> type[PrivateToolkit]:
    """Make the class of an episode's toolkit from the class of the domain's."""
    base = _with_think_tool(domain_class) if thinking_tool else domain_class
    base = _with_bounded_calculate(base)

    class EpisodeToolkit(PrivateToolkit, base):
        pass

    return EpisodeToolkit


def _with_think_tool(base: type[ToolKitBase]) -> type[ToolKitBase]:
    class WithThinkTool(base):
        think = GenericToolKit.think

    return WithThinkTool


def _with_bounded_calculate(base: type[ToolKitBase]) -> type[ToolKitBase]:
    """Make a subclass whose `calculate`, if it has one, refuses powers.

    tau2's `calculate`, in airline and retail, never ends with 9**9**9, and every other episode of
    the process would wait for it. Its description offers + - * / only.
    """
    stock_calculate = getattr(base, "calculate", None)
    if stock_calculate is None:
        return base

    class WithBoundedCalculate(base):
        @functools.wraps(stock_calculate)
        def calculate(self, expression: str) -> str:
            if "**" in expression:
                raise ValueError("Invalid characters in expression")
            return stock_calculate(self, expression)

    return WithBoundedCalculate
