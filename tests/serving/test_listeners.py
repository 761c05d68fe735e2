"""`subscriptions/listen`: who listens is listed, counted and ended like a session, and callers are listed, too."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import Any

import httpx2
import pytest
from django_redis import get_redis_connection
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import Context
from mcp_types import CONNECTION_CLOSED, SubscriptionsListenRequestParams

from mcp_sessions import conf, lifecycle
from mcp_sessions.authentication import blocking
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.ending import end_session
from mcp_sessions.http import modern as modern_era
from mcp_sessions.records import Kind, Session
from mcp_sessions.serving.listeners import Listener, Listeners
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.store.calls import queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.subscriptions import SharedSubscriptions
from mcp_sessions.testing import http_client, serving, url_of
from tests.support.asgi import endpoint
from tests.support.mcp_client import META, MODERN, RawClient, answer_of

#: Seconds that anything may take.
BOUND = 10

server = MCPServer("listened to", subscriptions=SharedSubscriptions())
own_listening: Server[Any] = Server("listened to in its own way")


@server.tool()
async def change(ctx: Context) -> None:
    await ctx.notify_tools_changed()
    await ctx.notify_resource_updated("book://1")


class User:
    """Somebody who has authenticated."""

    is_authenticated = True

    def __init__(self, pk: int) -> None:
        self.pk = pk


@asynccontextmanager
async def clients(user: Any = None, **keys: Any) -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.serving.test_listeners.server", **keys):
        async with asyncio.timeout(BOUND), serving(), http_client(user=user) as http:
            yield http


def modern(
    method: str, params: dict[str, Any], meta: dict[str, Any] = META
) -> tuple[dict[str, Any], dict[str, str]]:
    client = RawClient()
    message = client.request(method, {**params, "_meta": meta})
    name = {"mcp_name": params["name"]} if "name" in params else {}
    return message, client.headers(
        mcp_protocol_version=MODERN, mcp_method=method, mcp_session_id=None, **name
    )


def calling_itself(name: str, **capabilities: Any) -> dict[str, Any]:
    """The `_meta` of a client with another name."""
    return {
        **META,
        "io.modelcontextprotocol/clientInfo": {"name": name, "version": name},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }


async def call(http: httpx2.AsyncClient, tool: str, meta: dict[str, Any] = META) -> dict[str, Any]:
    message, headers = modern("tools/call", {"name": tool, "arguments": {}}, meta)
    return answer_of(await http.post(url_of(), json=message, headers=headers))


class Stream:
    """A client that listens: what it is sent, message by message."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """The next message; None after the last."""
        async for line in self._lines:
            if line.startswith("data: "):
                message: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return message
        return None


@asynccontextmanager
async def listening(
    http: httpx2.AsyncClient, meta: dict[str, Any] = META, **wanted: Any
) -> AsyncIterator[Stream]:
    params = {"notifications": wanted or {"toolsListChanged": True}}
    message, headers = modern("subscriptions/listen", params, meta)
    async with http.stream("POST", url_of(), json=message, headers=headers) as response:
        assert response.status_code == 200
        stream = Stream(response)
        acknowledged = await stream.next()
        assert acknowledged is not None
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        yield stream


def records(kind: Kind) -> list[Session]:
    limits = conf.endpoint("default").limits
    page = sync_store_for("default").run(queries.page(Query(kind=kind), offset=0, limit=100, limits=limits))
    assert page.total == len(page.sessions)
    return list(page.sessions)


async def until_listed(kind: Kind, number: int) -> list[Session]:
    async with asyncio.timeout(BOUND):
        while len(found := records(kind)) != number:
            await asyncio.sleep(0.01)
    return found


@pytest.mark.protocol("M5")
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_a_listener_is_listed_with_what_it_listens_to_until_it_leaves(
    store: str, request: pytest.FixtureRequest
) -> None:
    if store == "redis":
        request.getfixturevalue("redis_caches")
    async with clients(User(1)) as http:
        wanted: dict[str, Any] = {"toolsListChanged": True, "resourceSubscriptions": ["book://1", "book://2"]}
        async with listening(http, **wanted):
            [listener] = records("listener")
            assert (listener.name, listener.principal) == ("tools, 2 resources", "user:1")
            assert listener.handshake.client_info == META["io.modelcontextprotocol/clientInfo"]
            assert listener.handshake.protocol_version == MODERN
        await until_listed("listener", 0)


@pytest.mark.protocol("M5")
async def test_a_listener_hears_what_it_asked_for_and_nothing_else() -> None:
    async with clients() as http, listening(http, resourceSubscriptions=["book://1"]) as stream:
        await call(http, "change")
        message = await stream.next()
        assert message is not None
        assert (message["method"], message["params"]["uri"]) == (
            "notifications/resources/updated",
            "book://1",
        )


@pytest.mark.protocol("M5")
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_an_operator_ends_one_listener_gracefully_and_spares_the_others(
    store: str, request: pytest.FixtureRequest
) -> None:
    if store == "redis":
        request.getfixturevalue("redis_caches")
    async with clients() as http, listening(http) as stays:
        [other] = records("listener")
        async with listening(http) as ends:
            [fingerprint] = {each.fingerprint for each in records("listener")} - {other.fingerprint}
            async with asyncio.timeout(1):
                assert await asyncio.to_thread(end_session, "default", fingerprint)
                last = await ends.next()
                assert last is not None
                assert "io.modelcontextprotocol/subscriptionId" in last["result"]["_meta"]
                assert await ends.next() is None
        await call(http, "change")
        message = await stays.next()
        assert message is not None
        assert message["method"] == "notifications/tools/list_changed"
        assert await asyncio.to_thread(records, "listener") == [other]


async def test_an_end_of_which_no_notification_came_is_found_by_a_heartbeat(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.serving.listeners.RENEWED_AFTER_MS", 0)
    async with clients() as http, listening(http) as stream:
        [listener] = records("listener")
        end = sessions.end(listener.fingerprint, principal=None, reason="expired_by_operator")
        sync_store_for("default").run(end)
        await (await runtime_for("default")).listeners.keep()
        last = await stream.next()
        assert last is not None
        assert "result" in last


async def test_a_listener_whose_record_was_lost_is_recorded_again(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clients() as http, listening(http):
        [listener] = records("listener")
        get_redis_connection("default").flushdb()
        monkeypatch.setattr("mcp_sessions.serving.listeners.RENEWED_AFTER_MS", 0)
        await (await runtime_for("default")).listeners.keep()
        assert [each.fingerprint for each in records("listener")] == [listener.fingerprint]


async def test_listeners_end_gracefully_when_the_process_drains() -> None:
    async with clients() as http, listening(http) as stream:
        draining = asyncio.create_task(lifecycle.drain(BOUND))
        last = await stream.next()
        assert last is not None
        assert "result" in last
        assert await stream.next() is None
        await draining
        await until_listed("listener", 0)


class Source:
    """What has authenticated somebody, and takes it back."""

    recheck_seconds = 0.05

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        return []


@pytest.mark.parametrize("how", ["drained by an operator", "stopped", "blocked", "revoked"])
async def test_a_client_that_listens_by_the_servers_own_handler_ends_with_its_right_to(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Only the handler could end it gracefully; the client gets an error, and comes back if it may."""
    listens: asyncio.Queue[None] = asyncio.Queue()

    async def listen(_: Any, __: Any) -> Any:
        listens.put_nowait(None)
        await asyncio.Event().wait()

    monkeypatch.setattr(own_listening, "_request_handlers", dict(own_listening._request_handlers))
    own_listening.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listen)
    identity = Identity(principal="user:7", source=Source() if how == "revoked" else None)
    monkeypatch.setattr(modern_era, "identity_of", lambda _: identity)
    message, headers = modern("subscriptions/listen", {"notifications": {}}, calling_itself("rude"))
    with endpoint(SERVER="tests.serving.test_listeners.own_listening"):
        async with asyncio.timeout(BOUND), serving(), http_client(user=User(7)) as http:
            answering = asyncio.create_task(http.post(url_of(), json=message, headers=headers))
            await listens.get()
            blocks, runtime = blocking.blocks_of("default"), await runtime_for("default")
            match how:
                case "drained by an operator":
                    runtime.operating.drain(drains=True, by="somebody")
                case "stopped":
                    await lifecycle.drain(BOUND)
                case "blocked":
                    monkeypatch.setattr(blocking, "_active", lambda _: [("client", "rude", inf)])
                    await blocks.load()
            try:
                done, _ = await asyncio.wait([answering], timeout=BOUND / 4)
            finally:
                lifecycle.take_on_nothing(drains=False)
                monkeypatch.setattr(blocking, "_active", lambda _: [])
                await blocks.load()
            assert done
            assert answer_of(answering.result())["error"]["code"] == CONNECTION_CLOSED


async def test_a_principal_has_a_bounded_number_of_listeners_and_nobody_may_exceed_the_streams(
    redis_caches: Any,
) -> None:
    async with clients(User(1), MAX_LISTENERS_PER_PRINCIPAL=1, MAX_STREAMS=2) as http, listening(http):
        message, headers = modern("subscriptions/listen", {"notifications": {}})
        refused = await http.post(url_of(), json=message, headers=headers)
        assert refused.status_code == 503
        async with http_client(user=User(2)) as others, listening(others):
            async with http_client(user=User(3)) as third:
                refused = await third.post(url_of(), json=message, headers=headers)
                assert refused.status_code == 503
            assert len(records("listener")) == 2


@contextmanager
def recorded_slowly(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """A listener that is recorded sets the first event, and goes on when the second one is set."""
    recorded, goes_on = asyncio.Event(), asyncio.Event()
    record = Listeners._record

    async def slowly(listeners: Listeners, listener: Listener) -> None:
        await record(listeners, listener)
        recorded.set()
        await goes_on.wait()

    monkeypatch.setattr(Listeners, "_record", slowly)
    yield recorded, goes_on


@pytest.mark.parametrize("by", ["drain", "operator"])
async def test_a_listener_that_is_ended_while_it_is_recorded_ends_gracefully(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def last_of(http: httpx2.AsyncClient) -> dict[str, Any] | None:
        async with listening(http) as stream:
            return await stream.next()

    async with clients() as http:
        with recorded_slowly(monkeypatch) as (recorded, goes_on):
            last = asyncio.create_task(last_of(http))
            await recorded.wait()
            if by == "drain":
                await lifecycle.drain(BOUND)
            else:
                [listener] = records("listener")
                (await runtime_for("default")).listeners.end(listener.fingerprint)
            goes_on.set()
            message = await last
        assert message is not None
        assert "result" in message
        await until_listed("listener", 0)


async def test_nobody_listens_to_a_process_that_was_told_to_stop_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with clients() as http:
        runtime = await runtime_for("default")
        kernel, answer = runtime.server.kernel, runtime.server.kernel.answer_modern

        async def stopped_meanwhile(*args: Any) -> dict[str, Any]:
            response = await answer(*args)
            await runtime.drain()
            return response

        monkeypatch.setattr(kernel, "answer_modern", stopped_meanwhile)
        message, headers = modern("subscriptions/listen", {"notifications": {}})
        assert (await http.post(url_of(), json=message, headers=headers)).status_code == 503
        assert records("listener") == []


async def test_a_listener_whose_record_cannot_be_read_fails_no_heartbeat(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.serving.listeners.RENEWED_AFTER_MS", 0)
    async with clients() as http, listening(http) as stream:
        redis = get_redis_connection("default")
        [key] = redis.keys("*:session")
        redis.set(key, "of another release")
        await (await runtime_for("default")).listeners.keep()
        await call(http, "change")
        assert await stream.next() is not None


@pytest.mark.parametrize(
    ("uris", "error"),
    [
        (["book://1"] * 5, None),
        (["book://1"] * 6, "A client listens to 5 resources at most"),
        (["b" * 2_049], "The URI of a resource has 2048 characters at most"),
    ],
)
async def test_what_a_client_listens_to_is_bounded(uris: list[str], error: str | None) -> None:
    async with clients(MAX_SUBSCRIPTIONS=5) as http:
        if error is None:
            async with listening(http, resourceSubscriptions=uris):
                return
        message, headers = modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}})
        refused = await http.post(url_of(), json=message, headers=headers)
        assert refused.json()["error"] == {"code": -32602, "message": error}
        assert records("listener") == []


async def test_a_long_description_of_a_client_is_not_kept(redis_caches: Any) -> None:
    meta = calling_itself("x" * 50_000, experimental={"x" * 50_000: {}})
    async with clients(User(1)) as http, listening(http, meta):
        await call(http, "change", meta)
        await (await runtime_for("default")).callers.write()
        for record in (*records("listener"), *records("caller")):
            assert record.handshake.client_name == "x" * 100
            assert len(record.handshake.text) < 1_000


async def test_a_principal_with_many_clients_leaves_room_for_other_callers(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.serving.callers.MOST_CALLERS", 22)
    async with clients(User(1)) as http, http_client(user=User(2)) as others:
        for number in range(23):
            await call(http, "change", calling_itself(f"client {number}"))
        await call(others, "change")
        await (await runtime_for("default")).callers.write()
        assert sum(caller.principal == "user:1" for caller in records("caller")) == 20
        assert sum(caller.principal == "user:2" for caller in records("caller")) == 1


async def test_a_refused_listener_gets_the_sdks_error() -> None:
    async with clients() as http:
        message, headers = modern("subscriptions/listen", {"notifications": 7})
        refused = await http.post(url_of(), json=message, headers=headers)
        assert refused.json()["error"]["code"] == -32602
        assert records("listener") == []


@pytest.mark.parametrize(
    ("user", "inventory", "listed"),
    [(User(1), True, True), (None, True, False), (User(1), False, False)],
)
async def test_callers_are_listed_with_the_number_of_their_requests(
    redis_caches: Any, user: Any, inventory: bool, listed: bool
) -> None:
    async with clients(user, INVENTORY=inventory) as http:
        callers = (await runtime_for("default")).callers
        for _ in range(3):
            assert "error" not in await call(http, "change")
        await callers.write()
        for _ in range(2):
            await call(http, "change")
        await callers.write()
        found = records("caller")
        assert bool(found) == listed
        for caller in found:
            assert (caller.requests, caller.last_call) == (5, "tools/call:change")
            assert caller.handshake.client_info == META["io.modelcontextprotocol/clientInfo"]
            assert caller.principal == "user:1"


async def test_a_caller_that_an_operator_ended_is_listed_again_when_it_calls(redis_caches: Any) -> None:
    async with clients(User(1)) as http:
        callers = (await runtime_for("default")).callers
        await call(http, "change")
        await callers.write()
        [caller] = records("caller")
        assert await asyncio.to_thread(end_session, "default", caller.fingerprint)
        assert records("caller") == []
        await call(http, "change")
        await callers.write()
        assert [each.requests for each in records("caller")] == [1]


async def test_callers_are_written_without_being_asked(redis_caches: Any) -> None:
    async with clients(User(1)) as http:
        while not records("caller"):  # what a busy store does not take in time is dropped
            await call(http, "change")
            await asyncio.sleep(0.1)
