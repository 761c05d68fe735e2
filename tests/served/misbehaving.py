"""An ASGI application that does on request what an application should not do, for tests of the servers around it.

With GUARDED=1 in the environment it stands behind the guard; with PATCHED=1 it patches the `daphne` command.
"""

import asyncio
import gc
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from mcp_sessions import lifecycle
from mcp_sessions.http.guard import Guard
from mcp_sessions.startup import patch_daphne
from mcp_sessions.transport.asgi import Receive, Scope, Send

LARGE_BYTES = 16 * 1024 * 1024
#: The sizes of the parts that `/pour` sends: more than all buffers of a connection hold together.
POURED_SIZES = (100, 40_000, 0, 200_000, 1_000_000) * 50
POURED_BYTES = sum(POURED_SIZES)

released = asyncio.Event()
drained = asyncio.Event()
aborted = asyncio.Event()


def say(word: str) -> None:
    """Write to the server's log at once."""
    os.write(1, f"{word}\n".encode())


@lifecycle.on_drain
async def note_drain() -> None:
    say("drain hook")
    drained.set()


@lifecycle.on_abort
async def note_abort() -> None:
    aborted.set()


@lifecycle.on_shutdown
async def note_shutdown() -> None:
    say("shutdown hook")
    if os.environ.get("HANGS_AT_SHUTDOWN"):
        await asyncio.Event().wait()


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


async def until_aborted(send: Send) -> None:
    say("waiting")
    await aborted.wait()
    await asyncio.to_thread(bool)  # what is left to be done takes a moment
    await fine(send)


async def for_ever(send: Send) -> None:
    say("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def large(send: Send) -> None:
    await start(send)
    say("large begins")
    await chunk(send, bytes(LARGE_BYTES), last=True)


def poured() -> Iterator[bytes]:
    """The parts that `/pour` sends, each made when it is its turn."""
    for n, size in enumerate(POURED_SIZES):
        yield bytes([65 + n % 26]) * size


async def pour(send: Send) -> None:
    await start(send)
    say("pouring")
    for part in poured():
        await chunk(send, part)
    await chunk(send, b"", last=True)
    say("poured")


async def alive(send: Send) -> None:
    """How many objects of the server's there are for requests, and for sends that wait; this request is one."""
    gc.collect()
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    counts = {kind: kinds[kind] for kind in ("WebRequest", "HTTPChannel", "Room")}
    await start(send)
    await chunk(send, json.dumps({**counts, "Task": len(asyncio.all_tasks())}).encode(), last=True)


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
    "/until-aborted": until_aborted,
    "/for-ever": for_ever,
    "/large": large,
    "/pour": pour,
    "/alive": alive,
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
if os.environ.get("PATCHED") == "1":
    patch_daphne()
