"""Requests of the modern era get here what they get from the SDK's own HTTP application.

A table of good, odd and bad requests goes to both, in the test's own process. Status, headers and messages must agree.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from channels.routing import URLRouter
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import InboundModernRoute
from mcp_types import CONNECTION_CLOSED

from mcp_sessions import lifecycle
from mcp_sessions.authentication.blocking import blocks_of
from mcp_sessions.routing import mcp_urlpatterns
from mcp_sessions.sdk.envelope import EnvelopedConnection
from mcp_sessions.sdk.server import HostedServer
from mcp_sessions.store.drivers.embedded import EmbeddedStore
from mcp_sessions.testing import serving
from mcp_sessions.transport.asgi import Message
from mcp_sessions.transport.event_stream import EventStream
from tests.http.modern_requests import (
    ADD,
    BOUND,
    GOOD,
    MAX_BODY,
    PARAMETERS,
    STREAMED,
    TABLES,
    TOKEN,
    Application,
    Asked,
    Exchange,
    call,
    leaving,
    request,
)
from tests.served import modern
from tests.support.asgi import endpoint
from tests.support.mcp_client import MODERN

Pair = tuple[Application, Application]


@asynccontextmanager
async def both(server: MCPServer[Any] | Server[Any], name: str, **keys: Any) -> AsyncIterator[Pair]:
    """This app and the SDK's own application, with the same server."""
    mode = "json" if keys.get("RESPONSE") == "json" else "auto"
    lowlevel = server if isinstance(server, Server) else server._lowlevel_server
    manager = StreamableHTTPSessionManager(
        app=lowlevel, stateless=True, json_response=mode == "json", max_request_body_size=MAX_BODY
    )
    settings = {"SERVER": f"tests.served.modern.{name}", "MAX_BODY": MAX_BODY, **keys}
    with endpoint(**settings):
        async with serving(), manager.run():
            yield URLRouter(mcp_urlpatterns()), manager.handle_request


async def answered(application: Application, asked: Asked) -> dict[str, Any]:
    exchange = Exchange(asked=asked)
    await exchange.run(application)
    return exchange.answer()


SERVERS: Final[dict[str, MCPServer[Any] | Server[Any]]] = {
    "server": modern.server,
    "lowlevel": modern.lowlevel,
}


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[str]":
    """What `wait` has seen, in this test's event loop."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(modern, "seen", queue)
    return queue


@pytest.fixture
def not_by_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is handed to the SDK's application."""

    async def refuse(*_: Any) -> None:
        raise AssertionError("handed to the SDK")

    monkeypatch.setattr(HostedServer, "serve_modern", refuse)


@pytest.mark.protocol("M1")
@pytest.mark.parametrize("mode", ["auto", "json"])
@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("table", TABLES)
async def test_the_answer_is_that_of_the_sdk(table: str, name: str, mode: str) -> None:
    async with both(SERVERS[name], name, RESPONSE=mode) as (ours, sdk):
        wrong = {}
        for case, asked in TABLES[table].items():
            pair = await answered(ours, asked()), await answered(sdk, asked())
            if pair[0] != pair[1]:
                wrong[case] = pair
    assert wrong == {}


@pytest.mark.usefixtures("not_by_the_sdk")
async def test_calls_and_their_streams_are_answered_without_the_sdks_application() -> None:
    async with both(modern.server, "server") as (ours, _):
        for case, asked in {**GOOD, **STREAMED, **PARAMETERS}.items():
            assert (await answered(ours, asked()))["status"] in (200, 400), case


async def test_whatever_runs_a_handler_counts_in_the_limits_and_is_refused_when_its_client_is_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK's application, which knows nothing of either, gets only what it refuses."""
    async with both(modern.server, "server") as (ours, sdk):
        cases = {case: asked for table in TABLES.values() for case, asked in table.items()}
        run = [case for case, asked in cases.items() if (await answered(sdk, asked()))["status"] == 200]
        with monkeypatch.context() as blocking:
            # The database, which is read when the endpoint starts, has none.
            blocking.setattr(blocks_of("default"), "_take", lambda found: None)
            blocking.setattr(blocks_of("default"), "any", True)
            blocking.setattr(blocks_of("default"), "refuse", lambda asker: asker.client is not None)
            statuses = {case: (await answered(ours, cases[case]()))["status"] for case in run}
        assert statuses == dict.fromkeys(run, 403)
    async with both(modern.server, "server", RATE_LIMITS={"requests per address": "1/d"}) as (ours, _):
        await answered(ours, call("add", ADD))
        statuses = {case: (await answered(ours, cases[case]()))["status"] for case in run}
        assert statuses == dict.fromkeys(run, 429)
    assert {"UTF-16", "NaN", "nested deeply", "a similar content type", "a long id"} <= set(run)


async def test_a_listener_with_an_id_of_any_length_is_not_kept() -> None:
    listens = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="7" * 1_000)
    async with both(modern.server, "server") as (ours, _):
        assert (await answered(ours, listens))["content"]["id"] == "7" * 1_000


async def test_the_store_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise AssertionError("the store was asked")

    async with both(modern.server, "server") as (ours, _):
        await answered(ours, call("add", ADD))  # starts the node, which registers itself
        monkeypatch.setattr(EmbeddedStore, "run", refuse)
        for asked in GOOD.values():
            assert (await answered(ours, asked()))["status"] == 200
        monkeypatch.undo()


@pytest.mark.protocol("M4")
async def test_a_state_that_the_sdk_sealed_opens_here_and_the_other_way_round() -> None:
    async with both(modern.server, "server") as pair:
        for asking, confirming in (pair, pair[::-1]):
            exchange = Exchange(asked=call("confirm"))
            await exchange.run(asking)
            state = json.loads(exchange.body)["result"]["requestState"]
            answers = {"ok": {"action": "accept", "content": {"ok": True}}}
            params = {"name": "confirm", "arguments": {}, "requestState": state, "inputResponses": answers}
            answer = await answered(confirming, request(params=params))
            assert answer["content"]["result"]["structuredContent"] == {"result": "confirmed True"}


@pytest.mark.protocol("M3")
@pytest.mark.parametrize("mode", ["auto", "json"])
@pytest.mark.parametrize("report", [True, False])
async def test_a_client_that_leaves_cancels_its_call(report: bool, mode: str) -> None:
    async with both(modern.server, "server", RESPONSE=mode) as (ours, sdk):
        for application in (
            (ours,) if mode == "json" else (ours, sdk)
        ):  # the SDK's JSON mode does not notice it
            exchange = Exchange(asked=call("wait", {"report": report}, meta=TOKEN))
            running = asyncio.create_task(exchange.run(application))
            assert await asyncio.wait_for(modern.seen.get(), BOUND) == "began"
            exchange.left.set()
            assert await asyncio.wait_for(modern.seen.get(), BOUND / 4) == "cancelled"
            await running
            assert b"result" not in exchange.body


@pytest.mark.protocol("M3")
async def test_a_call_is_cancelled_whose_server_refuses_to_send() -> None:
    class Refusing(Exchange):
        async def send(self, message: Message) -> None:
            raise OSError("the client has left")

    async with both(modern.server, "server") as (ours, _):
        running = asyncio.create_task(Refusing(asked=call("wait", {"report": True}, meta=TOKEN)).run(ours))
        async with asyncio.timeout(BOUND / 4):
            while await modern.seen.get() != "cancelled":
                pass
        await running


async def test_a_client_that_leaves_in_the_middle_of_its_body_gets_no_handler() -> None:
    async with both(modern.server, "server") as (ours, _):
        await Exchange(asked=leaving(call("wait"))).run(ours)
        assert modern.seen.empty()


@pytest.mark.usefixtures("not_by_the_sdk")
async def test_a_long_silence_makes_the_answer_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.serving.modern.SILENT_SECONDS", 0.1)
    async with both(modern.server, "server") as (ours, _):
        exchange = Exchange(asked=call("wait"))
        running = asyncio.create_task(exchange.run(ours))
        assert await asyncio.wait_for(modern.seen.get(), BOUND) == "began"
        async with asyncio.timeout(BOUND):
            while not exchange.status:
                await asyncio.sleep(0)
        assert exchange.headers[b"content-type"] == b"text/event-stream"
        exchange.left.set()
        assert await asyncio.wait_for(modern.seen.get(), BOUND) == "cancelled"
        await running


async def test_a_call_waits_for_a_reader_that_is_behind_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream could not be resumed, so that it is not closed, as one of the handshake era would be."""
    waited: list[float | None] = []

    async def wait(stream: EventStream, seconds: float | None = None) -> bool:
        waited.append(seconds)
        return await drained(stream, seconds)

    drained = EventStream.wait_drained
    monkeypatch.setattr(EventStream, "wait_drained", wait)
    monkeypatch.setattr("mcp_sessions.transport.event_stream.MAX_QUEUED_BYTES", 500)
    async with both(modern.server, "server") as (ours, _):
        answer = await answered(ours, call("report", {"times": 50}, meta=TOKEN))
    assert len(answer["content"]) == 51
    assert set(waited) == {None}


async def test_a_listener_hears_the_same_and_keeps_listening() -> None:
    listens = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with both(modern.server, "server", RESPONSE="json") as pair:
        heard = []
        for application in pair:
            exchange = Exchange(asked=listens)
            running = asyncio.create_task(exchange.run(application))
            async with asyncio.timeout(BOUND / 4):
                while b"acknowledged" not in exchange.body:
                    await asyncio.sleep(0)
                await answered(pair[0], call("change_tools"))
                while b"list_changed" not in exchange.body:
                    await asyncio.sleep(0)
            exchange.left.set()
            await running
            heard.append({**exchange.answer(), "ended": True})
    assert heard[0] == heard[1]


def test_what_a_handler_may_copy_can_be_copied() -> None:
    route = InboundModernRoute(protocol_version=MODERN, client_info=None, client_capabilities={})
    copied = copy.copy(EnvelopedConnection(route))
    assert (copied.protocol_version, copied.initialized.is_set(), copied.state) == (MODERN, True, {})
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        copied.nothing  # noqa: B018


async def test_nobody_is_told_what_an_exception_says(caplog: pytest.LogCaptureFixture) -> None:
    async with both(modern.server, "server") as (ours, _):
        answer = await answered(ours, request("resources/read", {"uri": "modern://broken"}))
    assert answer["content"]["error"]["message"] == "Error reading resource modern://broken"
    assert "RuntimeError: a secret" in caplog.text


async def test_a_tool_that_ends_the_process_does_not_and_its_client_gets_an_error() -> None:
    async with both(modern.server, "server") as (ours, _):
        answer = await answered(ours, call("leave"))
        assert answer["content"]["error"] == {"code": -32603, "message": "Internal server error"}
        assert (await answered(ours, call("add", ADD)))["status"] == 200


async def test_requests_in_flight_are_answered_when_the_process_ends() -> None:
    for report in (False, True):
        async with both(modern.server, "server") as (ours, _):
            exchange = Exchange(asked=call("wait", {"report": report}, meta=TOKEN))
            running = asyncio.create_task(exchange.run(ours))
            assert await asyncio.wait_for(modern.seen.get(), BOUND) == "began"
            await lifecycle.abort()
            with pytest.raises(asyncio.CancelledError):
                await running
            content = exchange.answer()["content"]
            assert await asyncio.wait_for(modern.seen.get(), BOUND) == "cancelled"
        last = content[-1] if report else content
        assert (last["id"], last["error"]["code"]) == (7, CONNECTION_CLOSED)


async def test_a_broken_look_up_of_schemas_does_not_break_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with both(modern.lowlevel, "lowlevel") as (ours, sdk):
        for page in ("cycle", "fail", "endless"):
            monkeypatch.setattr(modern, "pages", page)
            wanted = {"region": "eu"}
            pair = [await answered(each, call("routed", wanted)) for each in (ours, sdk)]
            assert pair[0] == pair[1]
            assert pair[0]["status"] == 200
