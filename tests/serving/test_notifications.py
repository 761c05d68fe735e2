"""Notifications from clients: their handlers are counted, bounded and drained as those of requests are."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types import NotificationParams

from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient, cancelling

#: Seconds that anything here may take.
BOUND = 20
IN_ALL = 10
PER_SESSION = 7

server: Server[Any] = Server("notified")


class Handlers:
    """Those that run, and what lets them end."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self, _: ServerRequestContext[Any, Any], __: NotificationParams) -> None:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@pytest.fixture
def handlers() -> Handlers:
    handlers = Handlers()
    for method in ("notifications/custom", "notifications/cancelled"):
        server.add_notification_handler(method, NotificationParams, handlers)
    return handlers


@pytest.fixture
async def http(handlers: Handlers) -> AsyncIterator[httpx2.AsyncClient]:
    keys = {"MAX_REQUESTS": IN_ALL, "MAX_REQUESTS_PER_SESSION": PER_SESSION}
    with endpoint(SERVER="tests.serving.test_notifications.server", **keys):
        async with serving(), asyncio.timeout(BOUND), http_client() as http:
            yield http
            handlers.may_end.set()


CUSTOM = {"jsonrpc": "2.0", "method": "notifications/custom"}


async def flood(http: httpx2.AsyncClient, client: RawClient, count: int) -> list[httpx2.Response]:
    return await asyncio.gather(*(post(http, client, CUSTOM) for _ in range(count)))


def accepted(answers: list[httpx2.Response]) -> int:
    """How many were accepted; the others may be sent again."""
    refused = [answer for answer in answers if answer.status_code != 202]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} <= {(503, "10")}
    return len(answers) - len(refused)


async def test_a_flood_of_notifications_runs_no_more_handlers_than_requests_may(
    http: httpx2.AsyncClient, handlers: Handlers
) -> None:
    clients = [await opened(http) for _ in range(3)]
    assert accepted(await flood(http, clients[0], 100)) == PER_SESSION
    others = [accepted(await flood(http, client, 100)) for client in clients[1:]]
    assert others == [IN_ALL - PER_SESSION, 0]
    assert (handlers.begun, handlers.most) == (IN_ALL, IN_ALL)
    assert (await post(http, clients[2], clients[2].request("ping"))).status_code == 503
    handlers.may_end.set()
    while handlers.running:
        await asyncio.sleep(0)
    assert (await post(http, clients[2], clients[2].request("ping"))).status_code == 200
    assert accepted(await flood(http, clients[0], 1)) == 1


async def test_what_has_no_handler_needs_no_room(http: httpx2.AsyncClient, handlers: Handlers) -> None:
    client, other = await opened(http), await opened(http)
    await flood(http, client, IN_ALL)
    await flood(http, other, IN_ALL)
    assert handlers.running == IN_ALL
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    assert (await post(http, client, changed)).status_code == 202


async def test_a_process_that_stops_waits_for_the_handlers(
    http: httpx2.AsyncClient, handlers: Handlers
) -> None:
    runtime = await runtime_for("default")
    await flood(http, await opened(http), 2)
    draining = asyncio.create_task(runtime.drain())
    done, _ = await asyncio.wait([draining], timeout=0.05)
    assert not done
    handlers.may_end.set()
    await draining
    assert (handlers.begun, handlers.running, handlers.cancelled) == (2, 0, 0)


async def test_handlers_that_do_not_end_are_cancelled_with_the_process(handlers: Handlers) -> None:
    with endpoint(SERVER="tests.serving.test_notifications.server"):
        async with asyncio.timeout(BOUND), http_client() as http:
            runtime: Runtime = await runtime_for("default")
            await flood(http, await opened(http), 2)
            await runtime.stop()
    assert (handlers.begun, handlers.running, handlers.cancelled) == (2, 0, 2)


async def test_a_request_can_be_cancelled_where_nothing_more_may_run(
    http: httpx2.AsyncClient, handlers: Handlers
) -> None:
    runtime = await runtime_for("default")
    client, other = await opened(http), await opened(http)
    ended = asyncio.Event()

    async def wait(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.add_request_handler("custom/wait", NotificationParams, wait)
    call = client.request("custom/wait")
    answering = asyncio.create_task(post(http, client, call))
    while not list(runtime.admission):
        await asyncio.sleep(0)
    await flood(http, client, IN_ALL)
    await flood(http, other, IN_ALL)
    assert (await post(http, other, other.request("ping"))).status_code == 503
    await post(http, client, cancelling(call))
    await ended.wait()
    assert "-32800" in (await answering).text
