"""Which parameters of a tool may contain handles, and which tools give them."""

from dataclasses import dataclass
from typing import Annotated, Any, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

from mcp_sessions.errors import NoCurrentRequest
from mcp_sessions.handles.arguments import (
    Givers,
    checking,
    described,
    kinds_in,
    parameters_of,
    reads_handles,
)
from mcp_sessions.testing import Era, connect
from tests.served.baskets import Basket, Trip
from tests.support.asgi import endpoint


class Model(BaseModel):
    basket: Basket | None
    trips: dict[str, Trip]


class Loop(BaseModel):
    again: "list[Loop]"
    basket: Basket


class Endless(BaseModel):
    again: "list[Endless]"
    once_more: "dict[str, Endless]"


class Typed(TypedDict):
    basket: Basket


@dataclass
class Data:
    trip: Trip


Baskets = TypeAliasType("Baskets", list[Basket])
Tree = TypeAliasType("Tree", "list[Tree] | None")


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (Basket, {Basket}),
        (list[Basket], {Basket}),
        (Optional[Basket], {Basket}),  # noqa: UP045
        (Basket | Trip | None, {Basket, Trip}),
        (Annotated[Basket, Field(description="x")], {Basket}),
        (dict[str, tuple[Trip, ...]], {Trip}),
        (Model, {Basket, Trip}),
        (Loop, {Basket}),
        (Typed, {Basket}),
        (Data, {Trip}),
        (Baskets, {Basket}),
        (list[list[list[list[Basket]]]], {Basket}),
        (list[list[list[list[list[Basket]]]]], set()),
        (str, set()),
        (int | None, set()),
        (Any, set()),
    ],
)
def test_kinds_in_an_annotation(annotation: Any, kinds: set[type]) -> None:
    assert kinds_in(annotation) == kinds


@pytest.mark.parametrize(
    ("annotation", "may"),
    [
        (Basket, True),
        (list[list[list[list[list[list[Basket]]]]]], True),
        (Loop, True),
        (Endless, False),
        (Tree, False),
        (Any, False),
    ],
)
def test_handles_are_found_however_deep_they_are(annotation: Any, may: bool) -> None:
    def tool(argument: Any) -> None:
        raise NotImplementedError

    tool.__annotations__["argument"] = annotation
    assert reads_handles(tool) == may


def test_what_a_tool_returns_is_not_read() -> None:
    assert not reads_handles(create)
    assert reads_handles(copy)


def create() -> Basket:
    raise NotImplementedError


def copy(basket: Basket) -> Basket:
    raise NotImplementedError


def maybe() -> Trip | None:
    raise NotImplementedError


def each(trip: Trip, number: int = 1) -> Annotated[Trip, "the same"]:
    raise NotImplementedError


def all_of_them() -> list[Basket]:
    raise NotImplementedError


def test_tools_that_make_handles_and_tools_that_list_them() -> None:
    functions = {function.__name__: function for function in (create, copy, maybe, each, all_of_them)}
    givers = Givers(functions)
    assert givers.made_by(Basket) == ["create"]
    assert givers.made_by(Trip) == ["maybe"]
    assert "lists" not in givers.describe(Trip)
    assert "as create returned it. all_of_them lists those that exist." in givers.describe(Basket)
    assert Givers({"copy": copy}).made_by(Basket) == ["copy"]
    assert Givers({}).made_by(Basket) == []
    assert "as a tool returned it. It expires" in Givers({}).describe(Basket)
    assert parameters_of(each) == {"trip": {Trip}}
    assert parameters_of(create) == {}


def test_the_descriptions_of_parameters_say_where_handles_come_from() -> None:
    ours, trip = Basket.described(), Trip.described()
    schema: dict[str, Any] = {
        "properties": {
            "description": {"description": ours, "enum": ["description"]},
            "told": {"description": "What to buy. "},
            "either": {"anyOf": [{"description": ours}, {"description": trip}], "description": "Whichever."},
            "number": {"description": "Not a handle."},
            "silent": {"anyOf": [{"description": ours}, {"type": "null"}]},
        }
    }
    parameters = {
        **dict.fromkeys(("description", "told", "silent", "not in the schema"), frozenset({Basket})),
        "either": frozenset({Basket, Trip}),
    }
    givers = Givers({"create": create})
    basket = givers.describe(Basket)
    assert basket != ours
    assert described(schema, parameters, givers) == {
        "properties": {
            "description": {"description": basket, "enum": ["description"]},
            "told": {"description": f"What to buy. {basket}"},
            "either": {
                "anyOf": [{"description": basket}, {"description": trip}],
                "description": "Whichever.",
            },
            "number": {"description": "Not a handle."},
            "silent": {"anyOf": [{"description": basket}, {"type": "null"}]},
        }
    }
    assert schema["properties"]["told"]["description"] == "What to buy. "
    assert described({}, parameters, givers) == {}


async def taken(**_: Any) -> str:
    return "called"


@pytest.mark.parametrize(
    ("around", "is_checked"),
    [
        (lambda basket: basket, True),
        (lambda basket: [[[[basket]]]], True),
        (lambda basket: [[[[[basket]]]]], False),
        (lambda basket: Model(basket=basket, trips={}), True),
        (lambda basket: Data(trip=basket), True),
        (lambda basket: {basket: 1}, True),
        (lambda basket: {"a": [{"b": {basket}}]}, True),
        (lambda basket: (basket, basket), True),
        (lambda basket: frozenset({basket}), True),
        (lambda basket: str(basket), False),
        (lambda basket: [None, 7, b"text"], False),
    ],
)
async def test_handles_in_arguments_are_checked_before_the_tool_is_called(
    around: Any, is_checked: bool
) -> None:
    """Outside a request they cannot be."""
    checked = checking(taken, parameters=["argument"], givers=Givers({}))
    argument = around(Basket("basket-000-000-000"))
    assert await checked(other=argument) == "called"
    if is_checked:
        with pytest.raises(NoCurrentRequest):
            await checked(argument=argument)
    else:
        assert await checked(argument=argument) == "called"


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_the_reading_list_of_the_demo_works_for_everybody(era: Era) -> None:
    with endpoint():
        async with connect(era=era) as client:
            created = await client.call_tool("start_reading_list", {})
            assert created.structured_content is not None
            reading_list = created.structured_content["result"]
            added = {"reading_list": reading_list, "title": "Emma"}
            assert (await client.call_tool("add_to_reading_list", added)).structured_content == {"result": 1}
            shown = await client.call_tool("show_reading_list", {"reading_list": reading_list})
            assert shown.structured_content == {"result": ["Emma"]}
