"""Endpoints that serve one era (the setting ERAS): what a request of the other one is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_sessions.http.endpoint import LARGE_BODY_BYTES
from mcp_sessions.http.eras import era_refusal
from mcp_sessions.testing import connect, http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import LATEST, META, MODERN, RawClient

#: A port that nobody listens on.
NO_REDIS: Final = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
}
HANDSHAKE_ONLY: Final = ["handshake"]
MODERN_ONLY: Final = ["modern"]


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(), asyncio.timeout(20), http_client() as http:
        yield http


async def ask(
    http: httpx2.AsyncClient, method: str, *, version: str = MODERN, **params: Any
) -> httpx2.Response:
    """A request of the modern era, in the version that the client claims."""
    meta = {**META, "io.modelcontextprotocol/protocolVersion": version}
    message = RawClient().request(method, {"_meta": meta, **params})
    name = {"mcp-name": str(params["name"])} if "name" in params else {}
    headers = RawClient().headers(mcp_protocol_version=version, mcp_method=method) | name
    return await http.post(url_of(), json=message, headers=headers)


def unsupported(answer: httpx2.Response) -> dict[str, Any]:
    """The `data` of an UnsupportedProtocolVersionError for request 1."""
    body = answer.json()
    assert (answer.status_code, body["id"]) == (400, 1)
    assert body["error"]["code"] == UNSUPPORTED_PROTOCOL_VERSION
    assert all(version in body["error"]["message"] for version in body["error"]["data"]["supported"])
    return dict(body["error"]["data"])


@pytest.mark.protocol("M6")
async def test_both_eras_are_served_unless_the_setting_says_otherwise(http: httpx2.AsyncClient) -> None:
    with endpoint():
        client = await opened(http)
        assert (await post(http, client, client.request("tools/list"))).status_code == 200
        assert (await ask(http, "server/discover")).json()["result"]["supportedVersions"] == [MODERN]


@pytest.mark.protocol("M7")
async def test_without_the_modern_era_discover_is_refused_so_that_clients_go_on_with_initialize(
    http: httpx2.AsyncClient,
) -> None:
    with endpoint(ERAS=HANDSHAKE_ONLY):
        answer = await ask(http, "server/discover")
        assert (answer.status_code, answer.json()["id"]) == (400, 1)
        assert answer.json()["error"]["code"] == -32600
        assert "mcp-session-id" not in answer.text.lower()
        assert "mcp-session-id" not in answer.headers
        client = await opened(http)
        assert (await post(http, client, client.request("ping"))).status_code == 200


@pytest.mark.protocol("M7")
@pytest.mark.parametrize("version", [MODERN, "2099-01-01"])
async def test_without_the_modern_era_other_requests_are_told_the_versions_with_a_handshake(
    http: httpx2.AsyncClient, version: str
) -> None:
    with endpoint(ERAS=HANDSHAKE_ONLY):
        answer = await ask(http, "tools/call", name="add", arguments={}, version=version)
        supported = list(HANDSHAKE_PROTOCOL_VERSIONS)
        assert unsupported(answer) == {"supported": supported, "requested": version}


@pytest.mark.protocol("M7")
async def test_without_the_modern_era_the_other_verbs_of_its_clients_are_refused_too(
    http: httpx2.AsyncClient,
) -> None:
    with endpoint(ERAS=HANDSHAKE_ONLY):
        for verb in ("GET", "DELETE"):
            headers = {"mcp-protocol-version": MODERN, "accept": "text/event-stream"}
            answer = await http.request(verb, url_of(), headers=headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == UNSUPPORTED_PROTOCOL_VERSION
            assert answer.json()["error"]["data"]["requested"] == MODERN


@pytest.mark.protocol("M8")
async def test_without_the_handshake_initialize_is_told_the_modern_versions(http: httpx2.AsyncClient) -> None:
    with endpoint(ERAS=MODERN_ONLY):
        client = RawClient()
        answer = await post(http, client, client.initialize_message())
        supported = list(MODERN_PROTOCOL_VERSIONS)
        assert unsupported(answer) == {"supported": supported, "requested": LATEST}
        assert (await ask(http, "server/discover")).status_code == 200


@pytest.mark.protocol("M8")
@pytest.mark.parametrize(
    ("headers", "requested"),
    [
        ({"mcp-protocol-version": "2025-06-18"}, "2025-06-18"),
        ({"mcp-session-id": "of-the-day-before", "mcp-protocol-version": "2025-11-25"}, "2025-11-25"),
        ({"mcp-session-id": "of-the-day-before"}, "2025-03-26"),
        ({}, "2025-03-26"),
    ],
)
async def test_without_the_handshake_its_requests_are_told_the_modern_versions(
    http: httpx2.AsyncClient, headers: dict[str, str], requested: str
) -> None:
    with endpoint(ERAS=MODERN_ONLY):
        client = RawClient()
        message = client.request("tools/list")
        answer = await http.post(url_of(), json=message, headers=client.headers() | headers)
        assert unsupported(answer) == {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested}


@pytest.mark.protocol("M2", "M8")
async def test_without_the_handshake_there_is_nothing_to_get_or_delete(http: httpx2.AsyncClient) -> None:
    with endpoint(ERAS=MODERN_ONLY):
        for verb in ("GET", "DELETE"):
            for headers in ({}, {"mcp-session-id": "of-the-day-before", "mcp-protocol-version": LATEST}):
                answer = await http.request(verb, url_of(), headers=headers | {"accept": "text/event-stream"})
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("eras", [HANDSHAKE_ONLY, MODERN_ONLY])
async def test_what_is_no_request_or_a_large_one_is_refused_without_an_id(
    http: httpx2.AsyncClient, eras: list[str]
) -> None:
    client = RawClient()
    headers = client.headers(mcp_protocol_version=MODERN if eras == HANDSHAKE_ONLY else LATEST)
    bodies: dict[bytes, tuple[int, int]] = {
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}': (400, UNSUPPORTED_PROTOCOL_VERSION),
        b'{"jsonrpc":"2.0","id":7,"result":{}}': (400, UNSUPPORTED_PROTOCOL_VERSION),
        b'{"jsonrpc":"2.0","id":7,"method":"initialize","params":7}': (400, -32600),
        b"{": (400, -32700),
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"%s"}}' % (b"x" * LARGE_BODY_BYTES): (
            400,
            UNSUPPORTED_PROTOCOL_VERSION,
        ),
    }
    with endpoint(ERAS=eras):
        for body, expected in bodies.items():
            answer = await http.post(url_of(), content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == expected
            assert answer.json()["id"] is None


@pytest.mark.protocol("H28", "M7")
async def test_the_store_has_no_say_in_which_era_a_client_finds(
    http: httpx2.AsyncClient, settings: Any
) -> None:
    """A client takes the era for a property of the server, and may remember it: an outage must not look like one."""
    settings.CACHES = NO_REDIS
    with endpoint(ERAS=HANDSHAKE_ONLY):
        assert (await ask(http, "server/discover")).json()["error"]["code"] == -32600
        client = RawClient()
        refused = await post(http, client, client.initialize_message())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    with endpoint(ERAS=MODERN_ONLY):
        assert (await ask(http, "server/discover")).status_code == 200
        assert unsupported(await post(http, RawClient(), RawClient().initialize_message()))
    with endpoint():
        assert (await ask(http, "server/discover")).status_code == 200


@pytest.mark.protocol("M8")
async def test_the_sdks_client_connects_without_the_handshake_and_is_told_when_it_insists() -> None:
    async with serving(), asyncio.timeout(20):
        with endpoint(ERAS=MODERN_ONLY):
            async with connect(era="modern") as client:
                assert client.protocol_version == MODERN
            refused = pytest.RaisesExc(MCPError, match=f"This endpoint serves {MODERN}")
            with pytest.RaisesGroup(refused, allow_unwrapped=True, flatten_subgroups=True):
                async with connect(era="handshake"):
                    pass


async def test_the_sdks_client_is_told_of_an_outage_and_not_of_another_era(
    http: httpx2.AsyncClient, settings: Any
) -> None:
    settings.CACHES = NO_REDIS
    told = pytest.RaisesExc(MCPError, match="The session store cannot be reached")
    with endpoint(ERAS=HANDSHAKE_ONLY), pytest.RaisesGroup(told, flatten_subgroups=True):
        async with Client(streamable_http_client(url_of(), http_client=http)):
            pass


def test_only_initialize_says_in_its_parameters_which_version_it_asks_for() -> None:
    asked = {}
    for method in ("initialize", "tools/list", "complete"):
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"protocolVersion": "2024-11-05"}}
        refusal = era_refusal("POST", b"2025-11-25", json.dumps(message).encode(), modern=False)
        assert refusal.data is not None
        asked[method] = refusal.data["requested"]
    assert asked == {"initialize": "2024-11-05", "tools/list": "2025-11-25", "complete": "2025-11-25"}
