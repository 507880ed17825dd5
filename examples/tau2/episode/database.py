"""Private views of a frozen database: a view costs what an episode touches, whatever the size of the database.

What `FrozenDB` holds refuses to be written to, so no tool, whatever tau2 marks it as, can spoil another episode.
"""

import json
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from functools import cache, cached_property
from typing import Any

from pydantic import BaseModel, TypeAdapter
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.toolkit import ToolKitBase
from tau2.utils import get_dict_hash


class FrozenDB:
    """A database for any number of episodes, each with a `view` of its own."""

    def __init__(self, db: DB):
        self._model = type(db)
        self._fields = {
            name: _frozen_field(getattr(db, name), TypeAdapter(field.annotation))
            for name, field in self._model.model_fields.items()
        }

    def view(self) -> DB:
        """A private, writable view: tables and lists of models as `TableView`s and `ListView`s, everything else copied."""
        return self._model.model_construct(
            **{name: field.view() for name, field in self._fields.items()}
        )

    def changes(self, view: DB) -> dict[str, Any]:
        """What differs between a view and the frozen database: equal for views of equal contents, and only for them.

        Contents are compared as tau2's hash compares them, for which 5 and 5.0 are not the same.
        """
        return {name: field.changes(getattr(view, name)) for name, field in self._fields.items()}


class TableView(MutableMapping):
    """A private table over a frozen one: an item is copied when it is first looked up by its key.

    Iterating, as tau2's searches do over whole tables, hands out the frozen items themselves where the episode has none
    of its own.
    """

    def __init__(self, frozen: "_FrozenTable"):
        self._frozen = frozen
        self._own: dict[str, BaseModel] = {}
        self._deleted: set[str] = set()  # of the frozen keys; they may have come back as own ones

    def __getitem__(self, key: str) -> BaseModel:
        if key not in self._own:
            if key in self._deleted:
                raise KeyError(key)
            self._own[key] = self._frozen[key].copy()
        return self._own[key]

    def __setitem__(self, key: str, value: BaseModel) -> None:
        self._own[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._own.pop(key, None)
        if key in self._frozen:
            self._deleted.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._own or (key in self._frozen and key not in self._deleted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._merged())

    def __len__(self) -> int:
        new = sum(key not in self._frozen or key in self._deleted for key in self._own)
        return len(self._frozen) - len(self._deleted) + new

    def values(self) -> ValuesView[BaseModel]:
        return self._merged().values()

    def items(self) -> ItemsView[str, BaseModel]:
        return self._merged().items()

    def _merged(self) -> dict[str, BaseModel]:
        """All items in the order of a plain dict that went through the same."""
        kept = self._frozen.shared
        if self._deleted:
            kept = {key: item for key, item in kept.items() if key not in self._deleted}
        return {**kept, **self._own} if self._own else kept


class ListView(MutableSequence):
    """A private list over a frozen one: an item is copied when a tool gets to see it, be it by iterating."""

    def __init__(self, frozen: "_FrozenList"):
        self._items: list[Any] = list(frozen.items)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if isinstance(self._items[index], _FrozenItem):
            self._items[index] = self._items[index].copy()
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        for index, item in enumerate(self._items):
            if type(item) is _FrozenItem:
                item = self._items[index] = item.copy()
            yield item

    def __setitem__(self, index, value) -> None:
        self._items[index] = value

    def __delitem__(self, index) -> None:
        del self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)


@cache
def with_views(toolkit: type[ToolKitBase]) -> type[ToolKitBase]:
    """The toolkit's class for a database `db` that is a view of `frozen`."""
    names: list[str] = []

    @property
    def tools(self) -> dict[str, Callable]:
        """tau2's, which collects them anew from all base classes, twice for each call."""
        if not names:
            names.extend(toolkit.tools.fget(self))
        return {name: getattr(self, name) for name in names}

    def use_tool(self, tool_name: str, **arguments: Any) -> str:
        """The result as the text that the environment makes of it: from a model it would make another, for its log."""
        return Environment.to_json_str(_plain(toolkit.use_tool(self, tool_name, **arguments)))

    def get_db_hash(self) -> str:
        """Equal for equal databases, like tau2's, but only of what differs from the frozen one."""
        return get_dict_hash(self.frozen.changes(self.db))

    def update_db(self, update_data: dict | None = None) -> None:
        """tau2's update dumps and validates the whole database anyway, so it works on a plain one."""
        plain = {name: _plain(value) for name, value in self.db}
        self.db = type(self.db).model_construct(**plain)
        toolkit.update_db(self, update_data)

    members = {
        "tools": tools,
        "use_tool": use_tool,
        "get_db_hash": get_db_hash,
        "update_db": update_db,
    }
    return type(toolkit)(toolkit.__name__, (toolkit,), members)


def _plain(value: Any) -> Any:
    if isinstance(value, TableView):
        return dict(value.items())
    return list(value) if isinstance(value, ListView) else value


class _FrozenItem:
    """One model of a table or list; `shared` is what searches over tables get to see."""

    def __init__(self, item: BaseModel):
        self.shared = _freeze(item)
        self._model = type(item)

    @cached_property
    def _dump(self) -> dict:
        return self.shared.model_dump()

    @cached_property
    def _text(self) -> str:
        return repr(self._dump)

    def copy(self) -> BaseModel:
        """A private copy: validating a dump is several times faster than `deepcopy`."""
        return self._model.model_validate(self._dump)

    def change(self, item: Any) -> dict[str, Any]:
        """What the item is now, if that is not what it was."""
        return {} if item is self else _change(self._dump, self._text, _dump(item))


class _FrozenTable:
    def __init__(self, table: dict[str, BaseModel]):
        self._items = {key: _FrozenItem(item) for key, item in table.items()}
        self.shared = {key: item.shared for key, item in self._items.items()}

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __getitem__(self, key: str) -> _FrozenItem:
        return self._items[key]

    def __len__(self) -> int:
        return len(self._items)

    def view(self) -> TableView:
        return TableView(self)

    def changes(self, table: TableView | dict) -> dict[str, Any]:
        if isinstance(table, TableView):
            own, deleted = table._own, table._deleted - table._own.keys()
        else:
            own, deleted = table, self._items.keys() - table.keys()
        changed = {
            key: self._items[key].change(item) if key in self else _new(item)
            for key, item in own.items()
        }
        return {
            **dict.fromkeys(deleted),
            **{key: change for key, change in changed.items() if change},
        }


class _FrozenList:
    def __init__(self, items: list[BaseModel]):
        self.items = [_FrozenItem(item) for item in items]

    def view(self) -> ListView:
        return ListView(self)

    def changes(self, items: ListView | list) -> dict[str, Any]:
        now = items._items if isinstance(items, ListView) else items
        changed = {
            str(number): was.change(item)
            for number, (was, item) in enumerate(zip(self.items, now, strict=False))
        }
        added = [_dump(item) for item in now[len(self.items) :]]
        return {
            "length": len(now),
            "added": added,
            **{number: change for number, change in changed.items() if change},
        }


class _FrozenValue:
    """Any other field of a database."""

    def __init__(self, value: Any, adapter: TypeAdapter):
        self._adapter = adapter
        self._dump = adapter.dump_python(value)
        self._text = repr(self._dump)

    def view(self) -> Any:
        return self._adapter.validate_python(self._dump)

    def changes(self, value: Any) -> dict[str, Any]:
        return _change(self._dump, self._text, self._adapter.dump_python(value))


def _frozen_field(value: Any, adapter: TypeAdapter) -> _FrozenTable | _FrozenList | _FrozenValue:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if items and all(isinstance(item, BaseModel) for item in items):
        return _FrozenTable(value) if isinstance(value, dict) else _FrozenList(value)
    return _FrozenValue(value, adapter)


def _change(dump: Any, text: str, now: Any) -> dict[str, Any]:
    return {} if repr(now) == text or _canonical(now) == _canonical(dump) else _new(now)


def _new(item: Any) -> dict[str, Any]:
    return {"now": _dump(item)}


def _dump(item: Any) -> Any:
    if isinstance(item, _FrozenItem):
        return item._dump
    return item.model_dump() if isinstance(item, BaseModel) else item


def _canonical(dump: Any) -> str:
    return json.dumps(dump, sort_keys=True, default=str)


def _refuse(self, *_: Any, **__: Any) -> None:
    raise TypeError(
        "all episodes share this item: a tool may write to items that it looks up by key only"
    )


class _ImmutableDict(dict):
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class _ImmutableList(list):
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


@cache
def _immutable_class(model: type[BaseModel]) -> type[BaseModel]:
    return type(model)(model.__name__, (model,), {"__setattr__": _refuse, "__delattr__": _refuse})


def _freeze(value: Any) -> Any:
    if isinstance(value, BaseModel):
        members = {name: _freeze(item) for name, item in value.__dict__.items()}
        return _immutable_class(type(value)).model_construct(value.model_fields_set, **members)
    if isinstance(value, dict):
        return _ImmutableDict({key: _freeze(item) for key, item in value.items()})
    return _ImmutableList(map(_freeze, value)) if isinstance(value, list) else value
