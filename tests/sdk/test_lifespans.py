"""Lifespans that cannot be entered: the request gets an error, and the next one tries again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.server import MCPServer

from mcp_sessions.sdk.server import HostedServer


class Fatal(BaseException):
    """What no server expects."""


def hosted(lifespan: Callable[[Any], Any]) -> HostedServer:
    server = MCPServer("shop", lifespan=lifespan)
    return HostedServer(server, json_only=False, max_body=1000)


@pytest.mark.parametrize("error", [RuntimeError("the database is not there yet"), asyncio.CancelledError()])
async def test_a_lifespan_that_raised_is_entered_by_the_next_request(error: BaseException) -> None:
    attempts: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, str]]:
        attempts.append("entered")
        if len(attempts) == 1:
            raise error
        yield {}
        attempts.append("left")

    server = hosted(lifespan)
    with pytest.raises(RuntimeError):
        await server.start()
    await server.start()
    await server.start()
    await server.stop()

    assert attempts == ["entered", "entered", "left"]


async def test_a_request_that_waits_for_a_lifespan_learns_of_any_end_of_it() -> None:
    failing = True

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, str]]:
        await asyncio.sleep(0)
        if failing:
            raise Fatal
        yield {}

    server = hosted(lifespan)
    outcomes = await asyncio.gather(*[server.start() for _ in range(3)], return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 3


@pytest.mark.parametrize("error", [RuntimeError("x"), asyncio.CancelledError(), Fatal()], ids=repr)
async def test_the_task_of_a_lifespan_fails_only_with_what_no_server_expects(error: BaseException) -> None:
    failing = True

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, str]]:
        if failing:
            raise error
        yield {}

    server = hosted(lifespan)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    living = server._running
    assert living is not None
    with pytest.raises(RuntimeError):
        await starting
    [outcome] = await asyncio.gather(living, return_exceptions=True)
    assert (outcome is None) is isinstance(error, Exception), "the waiting requests were told"


async def test_a_lifespan_is_entered_once_although_the_first_client_has_left() -> None:
    attempts: list[str] = []
    ready = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, str]]:
        attempts.append("entered")
        await ready.wait()
        yield {}

    server = hosted(lifespan)
    first = asyncio.create_task(server.start())
    while not attempts:
        await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(server.start())
    ready.set()
    await second
    await server.stop()

    assert (attempts, first.cancelled()) == (["entered"], True)
