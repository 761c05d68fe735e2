"""What a request leaves behind is freed at once: nothing of it waits for the garbage collector."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, opened, post

RECALL = {"name": "recall", "arguments": {}}
#: Calls whose garbage is counted.
CALLS = 20


@contextmanager
def garbage() -> Iterator[list[Any]]:
    """What only the garbage collector would free of what happens in the block; complete after it."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def garbage_of_calls() -> list[Any]:
    async with serving(), http_client() as http:
        client = await opened(http)
        await post(http, client, client.request("tools/call", RECALL))

        with garbage() as found:
            for _ in range(CALLS):
                answer = await post(http, client, client.request("tools/call", RECALL))
                assert answer.json()["result"]["structuredContent"] == {"result": []}
    return found


async def test_a_call_leaves_no_cycles() -> None:
    with endpoint():
        found = await garbage_of_calls()
    left = Counter(type(thing).__qualname__ for thing in found)
    assert {kind: count for kind, count in left.items() if count >= CALLS} == {}
