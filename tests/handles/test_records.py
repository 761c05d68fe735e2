"""What is said of handles that cannot be used, and how often the store is asked."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

from mcp_sessions import StateHandle
from mcp_sessions.handles.record import duration
from mcp_sessions.store.factory import store_for
from mcp_sessions.testing import connect
from tests.served.baskets import Basket, Trip
from tests.support.asgi import endpoint
from tests.support.tool_calls import said, value

SHOP = "tests.served.baskets.server"

server: MCPServer[Any] = MCPServer("orders")


class Order(StateHandle, kind="order"):
    """Something that was bought."""


@server.tool()
async def buy() -> Order:
    order = await Order.create()
    await order.set("paid", value=False)
    return order


@server.tool()
async def end(order: str) -> bool:
    return await Order(order).end()


@server.resource("order://{order}")
async def read(order: Order) -> str:
    return str(await order.get("paid"))


def shop(path: str = SHOP) -> Any:
    return endpoint(SERVER=path)


def ann() -> Any:
    return connect(user=User(pk=1, username="ann"))


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=2), "2 days"),
        (timedelta(days=365), "365 days"),
        (timedelta(days=1), "24 hours"),
        (timedelta(hours=49), "49 hours"),
        (timedelta(hours=2), "2 hours"),
        (timedelta(hours=1), "60 minutes"),
        (timedelta(minutes=121), "121 minutes"),
        (timedelta(minutes=2), "2 minutes"),
        (timedelta(minutes=1), "60 seconds"),
        (timedelta(seconds=121), "121 seconds"),
        (timedelta(seconds=2), "2 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(milliseconds=1500), "1.5 seconds"),
        (timedelta(milliseconds=1), "0.001 seconds"),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_several(length: timedelta, words: str) -> None:
    assert duration(length // timedelta(milliseconds=1)) == words


def test_a_kind_that_begins_with_a_vowel_has_the_right_article() -> None:
    assert Order.described() == (
        "An order handle, as a tool returned it. It expires 24 hours after its last use, and 30 days after it was made."
    )
    assert Basket.described(made_by="a", listed_by="b").startswith(
        "A basket handle, as a returned it. b lists those that exist. It expires"
    )


async def test_a_new_handle_is_not_looked_up_in_the_call_that_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with shop("tests.handles.test_records.server"):
        async with ann() as client:
            store = store_for("default")
            asked: list[str] = []
            run_all = store.run_all

            async def noting(calls: Any) -> list[Any]:
                wanted = list(calls)
                asked.extend(call.script.name for call in wanted)
                return await run_all(wanted)

            monkeypatch.setattr(store, "run_all", noting)
            order = await value(client, "buy")
            assert asked == []
            [content] = (await client.read_resource(f"order://{order}")).contents
            assert content.text == "False"
            assert asked == ["touch"]


async def test_a_handle_ends_once_and_a_mistyped_one_is_no_handle() -> None:
    with shop("tests.handles.test_records.server"):
        async with ann() as client:
            order = await value(client, "buy")
            wrong = f"{order[:-1]}{(int(order[-1]) + 1) % 10}"
            assert await said(client, "end", order=wrong) == f"{wrong} has a mistyped character."
            with pytest.raises(MCPError, match="has a mistyped character"):
                await client.read_resource(f"order://{wrong}")
            assert [await value(client, "end", order=order) for _ in range(2)] == [True, False]


async def test_a_handle_that_ends_during_a_call_is_said_to_have_ended() -> None:
    with shop():
        async with ann() as client:
            one, into = await value(client, "create_basket"), await value(client, "create_basket")
            assert await said(client, "merge", baskets=[one, one], into=into) == (
                "This basket was ended. create_basket or create_in_a_thread makes a new one."
            )


async def test_a_call_may_have_a_hundred_handles() -> None:
    with shop():
        async with ann() as client:
            basket = await value(client, "create_basket")
            assert await value(client, "merge", baskets=[basket] * 100) is None
            text = await said(client, "merge", baskets=[basket] * 101)
            assert text == "One call may have 100 handles at most, and this one has 101."


async def test_the_beginning_of_a_wrong_text_is_repeated() -> None:
    with shop():
        async with ann() as client:
            whole, cut = "x" * (len("basket") + 16), "x" * (len("basket") + 17)
            assert (await said(client, "echo", basket=whole)).startswith(f"{whole} is not a whole")
            assert (await said(client, "echo", basket=cut)).startswith(f"{whole}… is not a whole")


async def test_where_every_text_is_taken_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with shop():
        async with ann() as client:
            monkeypatch.setattr("mcp_sessions.handles.text.secrets.choice", lambda alphabet: alphabet[7])
            assert (await value(client, "create_basket")).startswith("basket-777-777-77")
            assert await said(client, "create_basket") == (
                "There is no room for another basket at the moment. Try again later."
            )


async def test_whoever_makes_too_many_is_told_when_to_try_again() -> None:
    with endpoint(SERVER=SHOP, RATE_LIMITS={"handles per principal": "1/d"}):
        async with ann() as client:
            await value(client, "create_basket")
            text = await said(client, "create_basket")
            match = re.fullmatch(r"Too many new basket handles\. Try again in (\d+) seconds\.", text)
            assert match
            assert 86_330 < int(match[1]) <= 86_400


async def test_a_user_has_as_many_handles_as_the_class_or_the_default_allows() -> None:
    assert (Trip._spec.max_per_principal, Trip._spec.max_bytes) == (100, None)
    with endpoint(SERVER=SHOP, STATE_MAX_BYTES=10):
        async with ann() as client:
            basket = await value(client, "create_basket")
            assert await value(client, "add", basket=basket, article="longer than that") == 1
