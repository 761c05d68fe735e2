"""Handles in tools, with the SDK's own client in both eras."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from mcp import Client

from mcp_sessions import conf, counting
from mcp_sessions.ending import end_session
from mcp_sessions.handles import record
from mcp_sessions.handles import text as texts
from mcp_sessions.records import record_fingerprint
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import store_for
from mcp_sessions.testing import Era, connect
from tests.served.baskets import Basket
from tests.support.asgi import endpoint
from tests.support.tool_calls import said, value

ANN, BEN = User(pk=1, username="ann"), User(pk=2, username="ben")
SERVER = "tests.served.baskets.server"
DIGITS = re.compile(r"basket-\d{3}-\d{3}-\d{3}\Z")
SECRET = re.compile(r"basket(-[0-9a-z]{3}){9}\Z")
UNKNOWN = (
    "There is no such basket, or it expired after 24 hours without use. "
    "create_basket or create_in_a_thread makes a new one."
)

pytestmark = pytest.mark.parametrize("era", ["handshake", "modern"])


@asynccontextmanager
async def shop(era: Era, user: Any = ANN, **keys: Any) -> AsyncIterator[Client]:
    with endpoint(SERVER=SERVER, **keys):
        async with connect(era=era, user=user) as client:
            yield client


def other(basket: str) -> str:
    """A handle with one digit that is wrong."""
    return basket[:-1] + str((int(basket[-1]) + 1) % 10)


async def test_a_handle_is_a_string_that_other_tools_take(era: Era) -> None:
    async with shop(era) as client:
        result = await client.call_tool("create_basket", {})
        [block] = result.content
        assert block.type == "text"
        basket = block.text
        assert result.structured_content == {"result": basket}
        assert DIGITS.match(basket)
        assert await value(client, "add", basket=basket, article="tea") == 1
        assert await value(client, "add_in_a_thread", basket=basket, article="milk") == 2
        assert await value(client, "articles", basket=f" {basket.upper().replace('-', ' ')}") == [
            "tea",
            "milk",
        ]
        assert await value(client, "echo", basket=basket.removeprefix("basket-").replace("-", "")) == basket
        assert await value(client, "wish", wish={"basket": basket, "article": "jam"}) == 3
        deep = {"wishes": [[[[[{"basket": basket, "article": "rice"}]]]]]}
        assert await value(client, "wish_deeply", deep=deep) == 4
        contents = await client.read_resource(f"basket://{basket}")
        assert contents.contents[0].text == "tea, milk, jam, rice"  # type: ignore[union-attr]
        used = await client.call_tool("use_everything", {"basket": basket})
        assert used.structured_content == {"a": 5, "articles": ["tea", "milk", "jam", "rice"], "c": [3]}


async def test_lists_options_and_defaults(era: Era) -> None:
    async with shop(era) as client:
        one, two, into = [await value(client, "create_basket") for _ in range(3)]
        assert await value(client, "merge", baskets=[]) is None
        for basket in (one, two):
            await value(client, "add", basket=basket, article=basket)
        assert await value(client, "merge", baskets=[one, two], into=into) == into
        assert await value(client, "list_baskets") == [into]
        assert await value(client, "articles", basket=into) == [one, two]


async def test_a_sync_tool_makes_lists_resolves_and_ends_handles(era: Era) -> None:
    async with shop(era) as client:
        basket = await value(client, "create_in_a_thread")
        assert await value(client, "list_baskets") == [basket]
        assert await value(client, "end_in_a_thread", basket=basket) is True
        assert await value(client, "list_baskets") == []


async def test_the_schemas_say_where_handles_come_from(era: Era) -> None:
    async with shop(era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    text = (
        "A basket handle, as create_basket or create_in_a_thread returned it. list_baskets lists those that exist. It "
        "expires 24 hours after its last use, and 30 days after it was made."
    )
    parameters = tools["add"].input_schema["properties"]
    assert parameters["basket"] == {"type": "string", "description": text, "title": "Basket"}
    parameters = tools["merge"].input_schema["properties"]
    assert parameters["baskets"]["items"] == {"type": "string", "description": text}
    assert parameters["into"]["anyOf"] == [{"type": "string", "description": text}, {"type": "null"}]
    described = tools["articles"].input_schema["properties"]["basket"]["description"]
    assert described == f"The basket to look into. {text}"
    trip = tools["fly"].input_schema["properties"]["trip"]["description"]
    assert (
        trip
        == "A business trip handle, as create_trip returned it. It expires 90 minutes after its last use."
    )
    for tool in ("create_basket", "echo"):
        schema = tools[tool].output_schema
        assert schema is not None
        assert schema["properties"]["result"]["type"] == "string"
        assert schema["required"] == ["result"]
    schema = tools["list_baskets"].output_schema
    assert schema is not None
    assert schema["properties"]["result"]["items"]["type"] == "string"


async def test_a_mistyped_character_is_recognized_without_the_store(
    era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(era) as client:
        basket = await value(client, "create_basket")
        asked = counted(monkeypatch)
        assert await said(client, "add", basket=other(basket), article="tea") == (
            f"{other(basket)} has a mistyped character."
        )
        text = await said(client, "add", basket=basket[:-1], article="tea")
        assert text == (
            f"{basket[:-1]} is not a whole basket handle. "
            "Copy it exactly as create_basket or create_in_a_thread returned it."
        )
        assert "is not a whole" in await said(client, "add", basket="x" * 5000, article="tea")
        assert not asked


def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls that share a round trip, for each round trip from now on, but not the node's heartbeat."""
    store = store_for("default")
    asked: list[list[str]] = []
    run_all = store.run_all

    async def counting(calls: Any) -> list[Any]:
        calls = list(calls)
        if names := [call.script.name for call in calls if not call.script.name.startswith("node_")]:
            asked.append(names)
        return await run_all(calls)

    monkeypatch.setattr(store, "run_all", counting)
    return asked


async def test_all_handles_of_a_call_are_checked_in_one_round_trip(
    era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(era) as client:
        baskets = [await value(client, "create_basket") for _ in range(3)]
        asked = counted(monkeypatch)
        await value(client, "merge", baskets=baskets[:2], into=baskets[2])
        assert asked == [["touch"] * 3]
        asked.clear()
        await value(client, "plain", number=1)
        assert asked == []


async def test_a_foreign_handle_is_like_one_that_never_was(era: Era, monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(SERVER=SERVER):
        async with connect(era=era, user=ANN) as ann, connect(era=era, user=BEN) as ben:
            basket = await value(ann, "create_basket")
            await value(ann, "add", basket=basket, article="tea")
            mine = await value(ben, "create_basket")
            await value(ben, "end_basket", basket=mine)
            answers, trips = [], []
            asked = counted(monkeypatch)
            for handle in (basket, "basket-000-000-000"):
                asked.clear()
                answers.append(await said(ben, "add", basket=handle, article="spam"))
                trips.append(list(asked))
            assert answers == [UNKNOWN, UNKNOWN]
            assert trips == [[["touch"], ["ended"]]] * 2
            assert await value(ann, "articles", basket=basket) == ["tea"]
            assert await value(ben, "list_baskets") == []
            several = await said(ben, "merge", baskets=[basket, other(basket)])
            assert several == f"{basket}: {UNKNOWN} {other(basket)} has a mistyped character."


async def test_ended_handles_say_who_ended_them(era: Era, caplog: pytest.LogCaptureFixture) -> None:
    async with shop(era) as client:
        mine, theirs = await value(client, "create_basket"), await value(client, "create_basket")
        with caplog.at_level(logging.INFO, logger="mcp_sessions.handles"):
            assert await value(client, "end_basket", basket=mine) is True
        fingerprint = record_fingerprint("handle", "basket", "user:1", mine)
        assert caplog.messages[-1:] == [f"Handle {fingerprint:.12} ended: deleted, by 'user:1'."]
        digest = record_fingerprint("handle", "basket", "user:1", theirs)
        assert await sync_to_async(end_session)("default", digest, by="ann")
        assert await said(client, "articles", basket=theirs) == "An operator ended this basket."
        assert await said(client, "articles", basket=mine) == (
            "This basket was ended. create_basket or create_in_a_thread makes a new one."
        )


async def test_bounds_are_facts_for_the_model(era: Era) -> None:
    async with shop(era) as client:
        baskets = [await value(client, "create_basket") for _ in range(3)]
        assert await said(client, "create_basket") == (
            "There are 3 basket handles already, the most that one user may have. End one that is not needed any more."
        )
        assert await value(client, "create_trip")
        await value(client, "end_basket", basket=baskets[0])
        full = await value(client, "create_basket")
        assert (
            await said(client, "fill", basket=full) == "This basket is full: it holds 20,000 bytes at most."
        )
        assert "One call may have 100 handles at most" in await said(client, "merge", baskets=[full] * 101)


async def test_a_call_with_thousands_of_handles_is_refused_before_they_are_read(
    era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = texts.read

    def counted_read(kind: str, text: str) -> texts.Text:
        reads.append(text)
        return read(kind, text)

    async with shop(era) as client:
        monkeypatch.setattr("mcp_sessions.handles.text.read", counted_read)
        assert "One call may have 100 handles at most" in await said(client, "merge", baskets=["x"] * 5_000)
        assert len(reads) == 1_000
        reads.clear()
        wishes = [{"basket": "x", "article": "tea"}] * 5_000
        deep = {"wishes": [[[[wishes]]]]}
        assert "One call may have 100 handles at most" in await said(client, "wish_deeply", deep=deep)
        assert len(reads) == 1_000


async def test_max_handles_holds_for_everybody(
    era: Era, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_refused", Repeats(record.logger, "refused"))
    before = counting.since_the_start("default").numbers
    async with shop(era, user=None, MAX_HANDLES=4) as client:
        for _ in range(4):  # more than one user may have
            await value(client, "create_basket")
        assert await said(client, "create_basket") == (
            "There is no room for another basket at the moment. Try again later."
        )
    assert "MAX_HANDLES is reached" in caplog.text
    counted = counting.since_the_start("default").numbers
    assert counted["limited:MAX_HANDLES"] == before.get("limited:MAX_HANDLES", 0) + 1


async def test_without_a_subject_the_text_is_the_secret(era: Era, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mcp_sessions")
    caplog.set_level(logging.DEBUG, logger="mcp.server")
    with endpoint(SERVER=SERVER):
        async with connect(era=era) as one, connect(era=era) as two, connect(era=era, user=ANN) as ann:
            basket = await value(one, "create_basket")
            assert SECRET.match(basket)
            assert await value(two, "add", basket=basket.upper().replace("-", ""), article="tea") == 1
            assert await said(ann, "add", basket=basket, article="tea") == UNKNOWN
            several = await said(ann, "merge", baskets=[basket, basket[:-1]])
            assert several.startswith(f"basket-…{basket[-2:]}: There is no such basket")
            assert f" {basket[:22]}… is not a whole basket handle." in several
            assert "cannot be listed" in await said(one, "list_baskets")
            wrong = basket[:-2] + ("0" if basket[-2] != "0" else "1") + basket[-1]
            assert await said(one, "add", basket=wrong, article="tea") == (
                f"basket-…{wrong[-2:]} has a mistyped character."
            )
            digest = record_fingerprint("handle", "basket", "anonymous", basket)
            stored = await store_for("default").run(sessions.get(digest))
            assert stored is not None
            assert (stored.kind, stored.label, stored.name) == ("handle", "basket", "")
            assert (await said(one, "add", basket=basket[:-5], article="tea")).startswith(
                "This is not a whole"
            )
            # What is missing is an error of pydantic, which has the others in its text.
            assert "article" in await said(one, "add", basket=basket)
            assert "valid string" in await said(one, "add", basket=[basket], article="tea")
    servers = ("mcp_sessions", "mcp.server")
    messages = [each.getMessage() for each in caplog.records if each.name.startswith(servers)]
    assert messages
    assert not any(basket[:24] in message for message in messages)


async def test_what_is_stored_names_the_client_and_the_text(era: Era) -> None:
    async with shop(era) as client:
        basket = await value(client, "create_basket")
        stored = await store_for("default").run(
            sessions.get(record_fingerprint("handle", "basket", "user:1", basket))
        )
    assert stored is not None
    assert (stored.name, stored.label, stored.principal) == (basket, "basket", "user:1")
    assert stored.handshake.client_name == "mcp"
    assert stored.handshake.protocol_version == ("2026-07-28" if era == "modern" else "2025-11-25")
    assert stored.expires_ms - stored.created_ms == 86_400_000
    assert stored.deadline_ms - stored.created_ms == 30 * 86_400_000


async def test_a_taken_number_is_tried_again(era: Era, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(era) as client:
        first = await value(client, "create_basket")
        digits = iter(first.replace("basket-", "").replace("-", "")[:-1] + "00000042")
        monkeypatch.setattr("mcp_sessions.handles.text.secrets.choice", lambda _: next(digits))
        second = await value(client, "create_basket")
        assert second.startswith("basket-000-000-42")
        assert Basket._spec.max_per_principal == 3
        assert conf.endpoint("default").max_handles == 100_000


async def test_each_use_keeps_a_handle_and_the_end_comes_all_the_same(era: Era) -> None:
    async with shop(era) as client:
        started = monotonic()
        ticket, idle = await value(client, "create_ticket"), await value(client, "create_ticket")
        uses = 0
        while not (result := await client.call_tool("use_ticket", {"ticket": ticket})).is_error:
            uses += 1
            assert monotonic() - started < 10
            await asyncio.sleep(0.05)
        assert monotonic() - started > 1.4
        assert uses > 5
        text = "There is no such ticket, or it expired after 0.4 seconds without use. create_ticket makes a new one."
        assert text in str(result.content)
        assert await said(client, "use_ticket", ticket=idle) == text
