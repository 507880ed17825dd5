"""Private views of a frozen database: a view costs what an episode touches, whatever the size of the database."""

import json
from collections.abc import Iterator, MutableMapping
from copy import deepcopy
from functools import cache
from typing import Any

from pydantic import BaseModel
from tau2.environment.db import DB
from tau2.environment.toolkit import ToolKitBase
from tau2.utils import get_dict_hash


class TableView(MutableMapping):
    """A private table over a frozen one: an item is copied when it is first looked up by its key.

    Iterating hands out the frozen items themselves, as tau2's searches do over whole tables; no tool of tau2 writes to
    what it got by iterating (tests/test_environment.py checks them all).
    """

    def __init__(self, frozen: dict[str, BaseModel]):
        self._frozen = frozen
        self._own: dict[str, BaseModel] = {}
        self._deleted: set[str] = set()

    def __getitem__(self, key: str) -> BaseModel:
        if key not in self._own:
            if key in self._deleted:
                raise KeyError(key)
            self._own[key] = deepcopy(self._frozen[key])
        return self._own[key]

    def __setitem__(self, key: str, value: BaseModel) -> None:
        self._own[key] = value
        self._deleted.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._own.pop(key, None)
        self._deleted.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._own or (key in self._frozen and key not in self._deleted)

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._frozen if key not in self._deleted)
        yield from (key for key in self._own if key not in self._frozen)

    def __len__(self) -> int:
        new = sum(key not in self._frozen for key in self._own)
        return len(self._frozen) + new - sum(key in self._frozen for key in self._deleted)

    def values(self) -> list[BaseModel]:
        return [value for _, value in self.items()]

    def items(self) -> list[tuple[str, BaseModel]]:
        return [(key, self._own[key] if key in self._own else self._frozen[key]) for key in self]

    def changes(self) -> dict[str, Any]:
        """The items that differ from the frozen table, dumped, by key; None for a deleted one.

        They are compared as JSON, as tau2's hash does, for which 5 and 5.0 are not the same.
        """
        changed: dict[str, Any] = {key: None for key in self._deleted if key in self._frozen}
        for key, item in self._own.items():
            dump = item.model_dump()
            if key not in self._frozen or _canonical(dump) != _canonical(self._frozen[key].model_dump()):
                changed[key] = dump
        return changed


def _canonical(dump: dict) -> str:
    return json.dumps(dump, sort_keys=True, default=str)


def view(frozen: DB) -> DB:
    """A private view of a database: its tables as `TableView`s, everything else copied."""
    fields = {name: getattr(frozen, name) for name in type(frozen).model_fields}
    return type(frozen).model_construct(
        **{name: TableView(value) if isinstance(value, dict) else deepcopy(value) for name, value in fields.items()}
    )


@cache
def with_views(toolkit: type[ToolKitBase]) -> type[ToolKitBase]:
    """The toolkit's class for a database that is a `view`."""

    def get_db_hash(self) -> str:
        """Equal for equal databases, like tau2's, but only of what differs from the frozen one."""
        tables = {name: getattr(self.db, name) for name in type(self.db).model_fields}
        if not any(isinstance(table, TableView) for table in tables.values()):
            return toolkit.get_db_hash(self)
        return get_dict_hash(
            {name: table.changes() if isinstance(table, TableView) else _dump(table) for name, table in tables.items()}
        )

    def update_db(self, update_data: dict | None = None) -> None:
        """tau2's update dumps and validates the whole database anyway, so it works on a plain copy."""
        tables = {name: getattr(self.db, name) for name in type(self.db).model_fields}
        self.db = type(self.db).model_construct(
            **{name: dict(table.items()) if isinstance(table, TableView) else table for name, table in tables.items()}
        )
        toolkit.update_db(self, update_data)

    return type(toolkit)(toolkit.__name__, (toolkit,), {"get_db_hash": get_db_hash, "update_db": update_db})


def _dump(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    return [_dump(item) for item in value] if isinstance(value, list) else value
