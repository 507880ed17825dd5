"""Views of a frozen database: they are private, and tools use them like plain databases."""

from collections.abc import Callable
from enum import Enum

import pytest
from pydantic import BaseModel, Field
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.toolkit import ToolKitBase, ToolType, is_tool

from examples.tau2.episode.database import FrozenDB, TableView
from examples.tau2.episode.toolkits import PrivateToolkit
from tests.calls import stock


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    name: str
    price: float = 1.0
    tags: list[str] = Field(default_factory=list)
    parts: dict[str, "Item"] = Field(default_factory=dict)
    colour: Colour = Colour.RED


class Shop(DB):
    items: dict[str, Item]
    stock: dict[str, int]
    owner: Item
    log: list[str]
    parts: list[Item]


class ShopTools(ToolKitBase):
    """Tools that are all marked as reading, though most write."""

    @is_tool(ToolType.READ)
    def rename(self, key: str) -> str:
        self.db.items[key].name = "written"
        return "ok"

    @is_tool(ToolType.READ)
    def rename_all(self) -> str:
        for item in self.db.items.values():
            item.name = "written"
        return "ok"

    @is_tool(ToolType.READ)
    def tag_all(self) -> str:
        for _, item in self.db.items.items():
            item.tags.append("written")
        return "ok"

    @is_tool(ToolType.READ)
    def dismantle_all(self) -> str:
        for item in self.db.items.values():
            item.parts.pop("wheel")
        return "ok"

    @is_tool(ToolType.READ)
    def everything(self) -> dict[str, Item]:
        return self.db.items

    @is_tool(ToolType.READ)
    def every_part(self) -> list[Item]:
        return self.db.parts


class PrivateShopTools(PrivateToolkit, ShopTools):
    pass


def shop() -> Shop:
    items = {
        "car": Item(name="car", parts={"wheel": Item(name="wheel")}, tags=["new"]),
        "toy": Item(name="toy"),
    }
    parts = [Item(name="bolt"), Item(name="nut")]
    return Shop(items=items, stock={"car": 2}, owner=Item(name="Ann"), log=["opened"], parts=parts)


@pytest.fixture
def frozen() -> FrozenDB:
    return FrozenDB(shop())


def kit(frozen: FrozenDB) -> ShopTools:
    return PrivateShopTools(ShopTools(shop()), frozen)


def items_of(db: Shop) -> dict:
    return {key: item.model_dump() for key, item in db.items.items()}


def test_a_tool_that_only_claims_to_read_changes_no_other_episode(frozen):
    writer, other = kit(frozen), kit(frozen)
    before = other.get_db_hash()
    assert writer.use_tool("rename", key="car") == "ok"
    for tool in ("rename_all", "tag_all", "dismantle_all"):
        with pytest.raises(TypeError, match="all episodes share this item"):
            kit(frozen).use_tool(tool)
    assert items_of(other.db) == items_of(frozen.view()) == items_of(shop())
    assert writer.get_db_hash() != before == other.get_db_hash() == kit(frozen).get_db_hash()


def test_tools_may_return_whole_tables_and_lists(frozen):
    for tool in ("everything", "every_part"):
        expected = Environment.to_json_str(ShopTools(shop()).use_tool(tool))
        assert kit(frozen).use_tool(tool) == expected


def test_everything_else_is_private_too(frozen):
    first, second = frozen.view(), frozen.view()
    first.stock["car"] = 0
    first.owner.name = "Bob"
    first.log.append("closed")
    first.items["car"].parts["wheel"].tags.append("flat")
    for part in first.parts:
        part.name = "rusty"
    assert (second.stock, second.owner.name, second.log) == ({"car": 2}, "Ann", ["opened"])
    assert second.items["car"] == shop().items["car"] and list(second.parts) == shop().parts


def test_copies_have_the_types_of_the_original(frozen):
    car = frozen.view().items["car"]
    assert (
        type(car) is Item
        and type(car.parts) is dict
        and type(car.tags) is list
        and car.colour is Colour.RED
    )
    assert car == shop().items["car"]
    searched = next(iter(frozen.view().items.values()))
    assert isinstance(searched, Item) and searched.model_dump() == car.model_dump()


@pytest.mark.parametrize("domain", ["airline", "retail", "mock"])
def test_every_item_of_tau2s_databases_is_copied_as_it_is(domain):
    db = stock(domain).tools.db
    view = FrozenDB(db).view()
    for name, table in db:
        for key, item in table.items():
            copy = getattr(view, name)[key]
            assert copy == item and type(copy) is type(item)
            assert copy.model_dump_json() == item.model_dump_json()


def test_hashes_are_equal_when_contents_are(frozen):
    def after(change: Callable[[Shop], object]) -> str:
        tools = kit(frozen)
        change(tools.db)
        return tools.get_db_hash()

    unchanged = after(lambda db: None)
    assert after(lambda db: db.items["car"]) == unchanged, "looking is not changing"
    assert (
        after(lambda db: (db.items.pop("toy"), db.items.update(toy=Item(name="toy")))) == unchanged
    )
    assert after(lambda db: db.items.update(new=Item(name="new"))) != unchanged
    assert (
        after(lambda db: (db.items.update(new=Item(name="new")), db.items.pop("new"))) == unchanged
    )
    assert after(lambda db: db.items.pop("toy")) != unchanged
    assert after(lambda db: setattr(db.items["car"], "price", 1)) != unchanged, (
        "1 and 1.0 are not the same to tau2"
    )
    assert after(lambda db: db.stock.update(car=1)) != unchanged
    assert after(lambda db: setattr(db.owner, "price", 2.0)) != unchanged
    assert after(lambda db: (list(db.parts), db.parts[1])) == unchanged
    assert after(lambda db: setattr(db.parts[1], "price", 1)) != unchanged
    assert after(lambda db: db.parts.append(Item(name="bolt"))) != unchanged
    assert after(lambda db: db.parts.pop()) != after(lambda db: db.parts.pop(0)) != unchanged
    assert (
        after(lambda db: db.parts.append(db.parts.pop(0)))
        == after(lambda db: db.parts.reverse())
        != unchanged
    )
    assert after(lambda db: (db.parts.append(Item(name="nut")), db.parts.pop(1))) == unchanged
    assert after(lambda db: db.items.pop("toy")) == after(lambda db: db.items.pop("toy"))


def test_update_db_is_tau2s(frozen):
    theirs, mine = ShopTools(shop()), kit(frozen)
    for tools in (theirs, mine):
        tools.db.items["car"].name = "bus"
        tools.update_db({"stock": {"toy": 5}, "items": {"toy": {"price": 3.0}}})
    assert mine.db == theirs.db and not isinstance(mine.db.items, TableView)
    mine.db.items["toy"].name = "private"
    assert items_of(frozen.view()) == items_of(shop())


@pytest.mark.parametrize(
    "use",
    [
        lambda t: (list(t), len(t), "car" in t, "nothing" in t, t.get("nothing")),
        lambda t: (t.pop("car").name, list(t), len(t), "car" in t),
        lambda t: (t.update(new=t["car"]), list(t), len(t), [key for key, _ in t.items()]),
        lambda t: (t.pop("car"), t.update(car=None), list(t), len(t), "car" in t, t["car"]),
        lambda t: (
            t.update(a=1),
            t.update(b=2),
            t.pop("a"),
            t.update(a=3),
            list(t.items())[2:],
            len(t),
        ),
        lambda t: ([item.name for item in t.values()], list(t.keys()), list(reversed(list(t)))),
        lambda t: (t.setdefault("car", None).name, t.setdefault("new", 1), len(t), t == t),
        lambda t: (t.clear(), len(t), list(t), bool(t)),
    ],
)
def test_a_table_view_behaves_like_a_dict(frozen, use: Callable):
    assert use(frozen.view().items) == use(shop().items)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: (
            len(x),
            [item.name for item in x],
            x[0].name,
            x[-1].name,
            [item.name for item in x[:1]],
        ),
        lambda x: (x.append(Item(name="new")), x.pop(0).name, [item.name for item in x], len(x)),
        lambda x: (
            x.insert(0, 1),
            x.remove(1),
            x.index(x[1]),
            [item.name for item in reversed(x)],
            x[0] in x,
        ),
        lambda x: (x.clear(), len(x), bool(x)),
    ],
)
def test_a_list_view_behaves_like_a_list(frozen, use: Callable):
    assert use(frozen.view().parts) == use(shop().parts)


def test_missing_keys_and_deleted_keys_raise(frozen):
    table = frozen.view().items
    del table["car"]
    for key in ("car", "nothing"):
        with pytest.raises(KeyError):
            table[key]
        with pytest.raises(KeyError):
            del table[key]


def test_a_view_costs_what_it_touches():
    """Nothing is copied before it is looked up, and what is looked up is copied once."""
    frozen = FrozenDB(
        shop().model_copy(update={"items": {str(number): Item(name="x") for number in range(1000)}})
    )
    table = frozen.view().items
    assert table["7"] is table["7"] and len(table._own) == 1
    assert len(contents_of(frozen)) == 1000 and len(table._own) == 1


def contents_of(frozen: FrozenDB) -> dict:
    return dict(frozen.view().items.items())
