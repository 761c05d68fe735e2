"""An ASGI application that does on request what an application should not do, for tests of the servers around it.

With GUARDED=1 in the environment it stands behind the guard.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable

from mcp_sessions import lifecycle
from mcp_sessions.guard import Guard, Receive, Scope, Send

LARGE_BYTES = 16 * 1024 * 1024

released = asyncio.Event()
drained = asyncio.Event()


def say(word: str) -> None:
    """Into the server's log, at once."""
    os.write(1, f"{word}\n".encode())


@lifecycle.on_drain
async def note_drain() -> None:
    say("drain hook")
    drained.set()


@lifecycle.on_shutdown
async def note_shutdown() -> None:
    say("shutdown hook")


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def chunk(send: Send, body: bytes = b"chunk", *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


async def fine(send: Send) -> None:
    await start(send)
    await chunk(send, b"fine", last=True)


async def raise_first(send: Send) -> None:
    raise RuntimeError("before the response")


async def raise_later(send: Send) -> None:
    await start(send)
    await chunk(send)
    raise RuntimeError("after the response has started")


async def cancel_first(send: Send) -> None:
    raise asyncio.CancelledError


async def cancel_later(send: Send) -> None:
    await start(send)
    await chunk(send)
    raise asyncio.CancelledError


async def say_nothing(send: Send) -> None:
    return


async def until_released(send: Send) -> None:
    say("waiting")
    await released.wait()
    await fine(send)


async def release(send: Send) -> None:
    released.set()
    await fine(send)


async def until_drained(send: Send) -> None:
    await start(send)
    await chunk(send, b"open ")
    await drained.wait()
    await chunk(send, b"closed", last=True)


async def for_ever(send: Send) -> None:
    say("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def large(send: Send) -> None:
    await start(send)
    await chunk(send, bytes(LARGE_BYTES), last=True)
    say("large is sent")


PAGES: dict[str, Callable[[Send], Awaitable[None]]] = {
    "/healthz": fine,
    "/raise-first": raise_first,
    "/raise-later": raise_later,
    "/cancel-first": cancel_first,
    "/cancel-later": cancel_later,
    "/say-nothing": say_nothing,
    "/until-released": until_released,
    "/release": release,
    "/until-drained": until_drained,
    "/for-ever": for_ever,
    "/large": large,
}


async def tell_root_path(scope: Scope, send: Send) -> None:
    await start(send)
    await chunk(send, scope["root_path"].encode(), last=True)


async def misbehaving(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifecycle.lifespan(scope, receive, send)
    elif scope["path"] == "/root-path":
        await tell_root_path(scope, send)
    else:
        await PAGES[scope["path"]](send)


application = Guard(misbehaving) if os.environ.get("GUARDED") == "1" else misbehaving
