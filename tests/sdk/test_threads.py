"""Sync functions in threads: however often they are called and cancelled, the pool bounds them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from anyio import to_thread
from mcp import Client
from mcp.server import MCPServer

from mcp_sessions.sdk.threads import in_thread
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.testing import Era, connect
from tests.support.asgi import endpoint

#: Seconds that anything may take.
BOUND = 10
PLACES = 2

server = MCPServer("blocking")


class Door:
    """Counts who waits behind it, in threads."""

    def __init__(self) -> None:
        self.waiting = 0
        self.passed = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def wait(self) -> str:
        with self._lock:
            self.waiting += 1
        assert self._open.wait(BOUND)
        with self._lock:
            self.waiting -= 1
            self.passed += 1
        return "passed"

    def open(self) -> None:
        self._open.set()


door = Door()


@server.tool()
def block() -> str:
    return door.wait()


@server.prompt()
def blocking_prompt() -> str:
    return door.wait()


@server.resource("door://{name}")
def blocking_resource(name: str) -> str:
    return door.wait()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    global door
    door = Door()
    yield
    door.open()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.005)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_cancelled_call_keeps_its_place_until_its_thread_is_free() -> None:
    limiter, blocked = to_thread.current_default_thread_limiter(), in_thread(door.wait)
    limiter.total_tokens = PLACES
    running = [asyncio.create_task(blocked()) for _ in range(PLACES)]
    await until(lambda: door.waiting == PLACES)
    waits = asyncio.create_task(blocked())
    await until(lambda: limiter.statistics().tasks_waiting == 1)
    for task in (*running, waits):
        await cancelled(task)
    assert (limiter.borrowed_tokens, door.waiting) == (PLACES, PLACES)
    door.open()
    await until(lambda: limiter.borrowed_tokens == 0)
    assert door.passed == PLACES
    assert await blocked() == "passed"
    assert limiter.borrowed_tokens == 0


async def test_a_call_that_is_cancelled_before_it_begins_gives_its_place_back() -> None:
    limiter, blocked = to_thread.current_default_thread_limiter(), in_thread(door.wait)
    task = asyncio.create_task(blocked())
    await asyncio.sleep(0)  # it has its place, and no thread
    assert limiter.borrowed_tokens == 1
    await cancelled(task)
    assert (limiter.borrowed_tokens, door.waiting) == (0, 0)


async def test_what_the_function_raises_is_raised() -> None:
    async with asyncio.timeout(BOUND):
        with pytest.raises(ValueError, match="invalid literal"):
            await in_thread(int)("x")
    assert to_thread.current_default_thread_limiter().borrowed_tokens == 0


@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("what", ["tool", "prompt", "resource"])
async def test_clients_that_call_and_cancel_have_no_more_threads_than_the_pool(era: Era, what: str) -> None:
    async def ask(client: Client) -> Any:
        match what:
            case "tool":
                return await client.call_tool("block", {})
            case "prompt":
                return await client.get_prompt("blocking_prompt")
            case _:
                return await client.read_resource("door://x")

    with endpoint(SERVER="tests.sdk.test_threads.server"):
        async with connect(era=era) as client:
            limiter = to_thread.current_default_thread_limiter()
            limiter.total_tokens = PLACES
            runtime = await runtime_for("default")
            for number in range(1, PLACES + 1):
                task = asyncio.create_task(ask(client))
                await until(lambda number=number: door.waiting == number)  # type: ignore[misc]
                await cancelled(task)
                await until(lambda: not (runtime.modern or runtime.admission.tasks))
            task = asyncio.create_task(ask(client))
            await until(lambda: limiter.statistics().tasks_waiting == 1)
            assert door.waiting == PLACES
            door.open()
            assert "passed" in str(await task)
            await until(lambda: limiter.borrowed_tokens == 0)
