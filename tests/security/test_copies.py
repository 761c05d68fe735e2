"""What somebody reads in a copy of Redis, or in a log (docs/threat-model.md)."""

import logging
from typing import Any

import httpx2
import pytest
from pytest_django import Settings

from mcp_sessions.testing import http_client, serving, url_of
from tests.security.conftest import opened, ping
from tests.support.caches import Entry
from tests.support.mcp_client import META, MODERN, RawClient, answer_of
from tests.support.redis import RedisServer

#: A token that the verifier knows, and that nothing else contains.
TOKEN = "ann-a-token-that-is-nowhere-else"
SECRET = "what Ann keeps in her session"


async def used(http: httpx2.AsyncClient) -> tuple[RawClient, str]:
    """A client that has kept something, listened and made a handle; the handle's text."""
    client = await opened(http, TOKEN)
    keeps = client.request("tools/call", {"name": "keep", "arguments": {"what": SECRET}})
    assert (await http.post(url_of(), json=keeps, headers=client.headers())).status_code == 200
    makes = client.request("tools/call", {"name": "make_box", "arguments": {}})
    answer = answer_of(await http.post(url_of(), json=makes, headers=client.headers()))
    async with http.stream("GET", url_of(), headers=client.headers(accept="text/event-stream")) as stream:
        assert stream.status_code == 200
    modern = client.request("tools/call", {"name": "make_box", "arguments": {}, "_meta": META})
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "make_box"}
    headers = RawClient(token=TOKEN).headers() | routing
    assert (await http.post(url_of(), json=modern, headers=headers)).status_code == 200
    return client, str(answer["result"]["structuredContent"]["result"])


def contents(server: RedisServer) -> str:
    """Every key with its value, as text."""
    with server.client() as redis:
        found: list[Any] = []
        for key in redis.scan_iter():
            match redis.type(key):
                case b"string":
                    found.append((key, redis.get(key)))
                case b"hash":
                    found.append((key, redis.hgetall(key)))
                case b"zset":
                    found.append((key, redis.zrange(key, 0, -1, withscores=True)))
                case b"set":
                    found.append((key, redis.smembers(key)))
                case b"list":
                    found.append((key, redis.lrange(key, 0, -1)))
                case b"stream":
                    found.append((key, redis.xrange(key)))
                case kind:
                    raise AssertionError(f"{key!r} is a {kind!r}")
    return str(found)


@pytest.fixture
def in_redis(redis_caches: dict[str, Entry], redis_server: RedisServer, settings: Settings) -> RedisServer:
    """The endpoint keeps its sessions in Redis, which is empty."""
    with redis_server.client() as redis:
        redis.flushall()
    settings.MCP_SESSIONS = {
        "default": {
            "SERVER": "tests.served.curious.server",
            "AUTHENTICATION": ["token"],
            "TOKEN_VERIFIER": "tests.served.tokens.Verifier",
            "ISSUER_URL": "https://issuer.example.com",
            "RESOURCE_URL": "https://mcp.example.com/mcp",
        }
    }
    return redis_server


async def test_a_copy_of_redis_has_no_session_id_and_no_token(in_redis: RedisServer) -> None:
    async with serving(), http_client() as http:
        client, _ = await used(http)
        copy = contents(in_redis)
    assert client.session_id is not None
    assert client.fingerprint in copy
    # Neither the id nor its signature, by which alone one could make it from what is there.
    for secret in (client.session_id, client.session_id[-24:], TOKEN):
        assert secret not in copy


async def test_a_copy_of_redis_shows_state(in_redis: RedisServer) -> None:
    async with serving(), http_client() as http:
        _, handle = await used(http)
        copy = contents(in_redis)
    assert SECRET in copy
    assert handle in copy, "which is worth nothing to anybody but its principal"
    assert "https://issuer.example.com" in copy


async def test_no_log_has_a_session_id_or_a_token(
    in_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(), http_client() as http:
        client, _ = await used(http)
        assert await ping(http, RawClient(token="bob-1", session_id=client.session_id)) == 404
        assert await ping(http, RawClient(token=f"{TOKEN}-wrong"[1:], session_id=client.session_id)) == 401
        assert (await http.delete(url_of(), headers=client.headers())).status_code == 204
        assert await ping(http, client) == 404
    assert client.session_id is not None
    ours = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("mcp"))
    assert client.fingerprint[:12] in ours
    for secret in (client.session_id, client.session_id[-24:], TOKEN, TOKEN[1:]):
        assert secret not in ours
