"""Credentials of every kind, changed at random, at every authenticator: each request is answered, and none with 5xx.
Good credentials beside them are accepted.
"""

import asyncio
import json
import os
import random
from collections import Counter
from typing import Any, Final

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter

from mcp_sessions.routing import mcp_urlpatterns
from mcp_sessions.testing import serving
from mcp_sessions.transport.asgi import Application, Message, Scope
from tests.authentication.conftest import provider as provider
from tests.authentication.conftest import ways as ways
from tests.authentication.ways import Headers, Way
from tests.support.mcp_client import META

Header = tuple[bytes, bytes]

pytestmark = pytest.mark.django_db(transaction=True)

COUNT: Final = 400
TOGETHER: Final = 10
_NAMES: Final = (
    b"authorization",
    b"cookie",
    b"origin",
    b"x-forwarded-user",
    b"sec-fetch-site",
    b"host",
    b"mcp-session-id",
    b"x-forwarded-for",
)
_SCHEMES: Final = (b"Bearer ", b"Token ", b"Basic ", b"bearer", b"DPoP ")
_CLIENTS: Final = (("127.0.0.1", 1), None, ("", 1), ("::ffff:127.0.0.1", 1), ("evil", 0))


async def test_hostile_credentials_do_no_harm(ways: dict[str, Way]) -> None:
    seed = int(os.environ.get("MCP_SESSIONS_SEED", 0)) or random.SystemRandom().randrange(1 << 31)
    chance = random.Random(seed)  # noqa: S311 - the same ones again, not secrets
    bad = [send for way in ways.values() for case, send in way.sends.items() if case != "good"]
    known = [pair for send in bad for pair in _raw(await sync_to_async(send)())]
    # Last, because some of the others replace the token of their user.
    good = {name: _raw(await sync_to_async(way.sends["good"])()) for name, way in ways.items()}
    known += [pair for pairs in good.values() for pair in pairs]
    statuses: Counter[int] = Counter()
    application: Any = URLRouter(mcp_urlpatterns())
    async with serving():
        for _ in range(COUNT // TOGETHER):
            asked = [chance.choice(list(ways)) for _ in range(TOGETHER)]
            untouched, *scopes = [
                _scope(asked[0], good[asked[0]]),
                *(_changed_scope(chance, way, good[way], known) for way in asked[1:]),
            ]
            first, *others = await asyncio.gather(
                *(_status(application, each) for each in (untouched, *scopes))
            )
            assert first == 200, f"{first} for {untouched}, MCP_SESSIONS_SEED={seed}"
            for scope, status in zip(scopes, others, strict=True):
                assert 200 <= status < 500, f"{status} for {scope}, MCP_SESSIONS_SEED={seed}"
                statuses[status] += 1
    assert statuses[401] > COUNT / 5


def _raw(headers: Headers) -> list[Header]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _changed_scope(chance: random.Random, way: str, good: list[Header], known: list[Header]) -> Scope:
    headers = list(good) if chance.random() < 0.3 else []
    for _ in range(chance.randrange(4)):
        name, value = (
            chance.choice(known) if chance.random() < 0.7 else (chance.choice(_NAMES), _junk(chance))
        )
        headers.append((name, value if chance.random() < 0.4 else _changed(chance, value)))
    if chance.random() < 0.3:
        headers.append((b"authorization", chance.choice(_SCHEMES) + _junk(chance)))
    method = chance.choice(("POST", "POST", "POST", "GET", "DELETE", "OPTIONS", "PUT"))
    return {**_scope(way, headers), "method": method, "client": chance.choice(_CLIENTS)}


def _scope(way: str, headers: list[Header]) -> Scope:
    """Of a POST."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/{way}",
        "raw_path": f"/{way}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"testserver"),
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
            *headers,
        ],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }


def _junk(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((0, 1, 3, 20, 300, 4000)))


def _changed(chance: random.Random, value: bytes) -> bytes:
    made = bytearray(value)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(3):
            case 0:
                made[at : at + 1] = chance.randbytes(1)
            case 1:
                del made[at : at + chance.randrange(20)]
            case _:
                made[at:at] = _junk(chance)[:50]
    return bytes(made)


async def _status(application: Application, scope: Scope) -> int:
    """The status of the answer to `initialize`, which must come in time."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
        "_meta": META,
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    waiting: list[Message] = [
        {"type": "http.request", "body": json.dumps(message).encode(), "more_body": False}
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(60):
        await application(scope, receive, send)
    return int(sent[0]["status"])
