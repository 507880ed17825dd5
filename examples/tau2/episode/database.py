"""Private views of a frozen database: an episode copies only the items that it looks up.

No tool can write to the items of a `FrozenDB`. So no tool can spoil another episode, not even a
tool that writes although tau2 marks it as reading.
"""

import json
import pickle
from collections.abc import (
    Collection,
    ItemsView,
    Iterator,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from functools import cache, cached_property
from typing import Any, NoReturn

from pydantic import BaseModel, TypeAdapter
from tau2.environment.db import DB


class FrozenDB:
    """A database that any number of episodes share; each has a `view` of its own."""

    def __init__(self, db: DB):
        self.model = type(db)
        self._fields = {
            name: _frozen_field(getattr(db, name), TypeAdapter(field.annotation))
            for name, field in self.model.model_fields.items()
        }

    def view(self) -> DB:
        """Make a private, writable view.

        Tables and lists of models become `TableView`s and `ListView`s; everything else is copied.
        """
        fields = {name: field.view() for name, field in self._fields.items()}
        return self.model.model_construct(None, **fields)

    def changes(self, view: DB) -> dict[str, Any]:
        """Describe by field what differs between a view and the frozen database.

        The descriptions of two views are equal if their contents are equal, and only then. Contents
        are compared as tau2's hash compares them: 5 and 5.0 are different.
        """
        return {name: field.changes(getattr(view, name)) for name, field in self._fields.items()}


class TableView(MutableMapping):
    """A private table over a frozen one: an item is copied when it is first looked up by its key.

    Iteration, which tau2's searches do over whole tables, copies nothing: it gives the episode's
    own items, and the frozen ones where the episode has none of its own.
    """

    def __init__(self, frozen: "_FrozenTable"):
        self._frozen = frozen
        self._own: dict[str, BaseModel] = {}
        # frozen keys that were deleted; one that was set again afterwards is also in `_own`
        self._deleted: set[str] = set()

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
        """Return all items, in the order that a plain dict would have after the same changes."""
        kept = self._frozen.shared
        if self._deleted:
            kept = {key: item for key, item in kept.items() if key not in self._deleted}
        if self._own:
            return {**kept, **self._own}
        return kept


class ListView(MutableSequence):
    """A private list over a frozen one: an item is copied when a tool first gets it."""

    def __init__(self, frozen: "_FrozenList"):
        self._items: list[Any] = list(frozen.items)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
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


def plain(value: Any) -> Any:
    """Make a dict of a `TableView` and a list of a `ListView`; return anything else as it is."""
    if isinstance(value, TableView):
        return dict(value.items())
    if isinstance(value, ListView):
        return list(value)
    return value


class _FrozenItem:
    """One model of a table or list; `shared` is the immutable model that searches get."""

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
        """Make a private copy; to validate a dump is several times faster than `deepcopy`."""
        return self._model.model_validate(self._dump)

    def change(self, item: Any) -> dict[str, Any]:
        """Describe how the item differs from the frozen one; {} if it does not."""
        if item is self:
            return {}
        return _change(self._dump, self._text, _dump(item))


class _FrozenTable:
    """A field of a database that is a dict of models."""

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
        """Describe what differs by key; None for an item that was deleted."""
        if isinstance(table, TableView):
            own, deleted = table._own, table._deleted - table._own.keys()
        else:
            own, deleted = table, self._items.keys() - table.keys()
        changes: dict[str, Any] = dict.fromkeys(deleted)
        for key, item in own.items():
            change = self._items[key].change(item) if key in self else _value(item)
            if change:
                changes[key] = change
        return changes


class _FrozenList:
    """A field of a database that is a list of models."""

    def __init__(self, items: list[BaseModel]):
        self.items = [_FrozenItem(item) for item in items]

    def view(self) -> ListView:
        return ListView(self)

    def changes(self, items: ListView | list) -> dict[str, Any]:
        """Describe the length, the items added at the end, and what differs by position."""
        now = items._items if isinstance(items, ListView) else items
        added = [_dump(item) for item in now[len(self.items) :]]
        changes: dict[str, Any] = {"length": len(now), "added": added}
        for position, (frozen, item) in enumerate(zip(self.items, now, strict=False)):
            change = frozen.change(item)
            if change:
                changes[str(position)] = change
        return changes


class _FrozenValue:
    """Any other field of a database."""

    def __init__(self, value: Any, adapter: TypeAdapter):
        self._adapter = adapter
        self._dump = adapter.dump_python(value)
        self._text = repr(self._dump)
        # to read a pickle is several times faster than `deepcopy`
        self._pickle = pickle.dumps(value)

    def view(self) -> Any:
        return pickle.loads(self._pickle)

    def changes(self, value: Any) -> dict[str, Any]:
        return _change(self._dump, self._text, self._adapter.dump_python(value))


def _frozen_field(value: Any, adapter: TypeAdapter) -> _FrozenTable | _FrozenList | _FrozenValue:
    if isinstance(value, dict) and _are_models(value.values()):
        return _FrozenTable(value)
    if isinstance(value, list) and _are_models(value):
        return _FrozenList(value)
    return _FrozenValue(value, adapter)


def _are_models(items: Collection) -> bool:
    return len(items) > 0 and all(isinstance(item, BaseModel) for item in items)


def _change(dump: Any, text: str, now: Any) -> dict[str, Any]:
    """Describe the value now; {} if it equals `dump`. `text` is the faster `repr` of `dump`."""
    if repr(now) == text or _canonical(now) == _canonical(dump):
        return {}
    return _value(now)


def _value(item: Any) -> dict[str, Any]:
    return {"now": _dump(item)}


def _dump(item: Any) -> Any:
    if isinstance(item, _FrozenItem):
        return item._dump
    return item.model_dump() if isinstance(item, BaseModel) else item


def _canonical(dump: Any) -> str:
    return json.dumps(dump, sort_keys=True, default=str)


def _refuse(*_: Any, **__: Any) -> NoReturn:
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
    class Immutable(model):
        __setattr__ = _refuse
        __delattr__ = _refuse

    # a tool may return the `repr` of an item, which begins with the name of its class
    Immutable.__name__ = Immutable.__qualname__ = model.__name__
    return Immutable


def _freeze(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: _freeze(item) for name, item in vars(value).items()}
        return _immutable_class(type(value)).model_construct(value.model_fields_set, **fields)
    if isinstance(value, dict):
        return _ImmutableDict({key: _freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return _ImmutableList(_freeze(item) for item in value)
    return value
