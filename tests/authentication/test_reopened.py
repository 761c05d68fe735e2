"""A session that is opened without its record still belongs to the token that opened it: revoking the token ends it."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from mcp_sessions.authentication.models import PersonalToken
from mcp_sessions.serving import outage
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.tokens import revoke_token
from tests.authentication.ways import bearer, personal
from tests.http.test_without_the_store import no_store
from tests.support.caches import Entry
from tests.support.mcp_client import RawClient
from tests.support.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint(redis_caches: dict[str, Entry], settings: Settings) -> Callable[..., None]:
    """Serve personal tokens from Redis, with these settings besides."""

    def serve(**more: Any) -> None:
        entry = {
            "SERVER": "tests.served.whoami.server",
            "AUTHENTICATION": ["personal-token"],
            "REVOKE_ENDS_SESSIONS": True,
            "NAMESPACE": "reopened",
        }
        settings.MCP_SESSIONS = {"default": entry | more}

    return serve


async def opened(http: httpx2.AsyncClient, text: str) -> RawClient:
    client = RawClient(token=text)
    answer = await http.post(url_of(), json=client.initialize_message(), headers=client.headers())
    assert answer.status_code == 200, answer.text
    client.session_id = answer.headers["mcp-session-id"]
    return client


async def ping(http: httpx2.AsyncClient, client: RawClient, **more: str) -> int:
    headers = client.headers() | more
    return (await http.post(url_of(), json=client.request("ping"), headers=headers)).status_code


async def ends_with_its_token(http: httpx2.AsyncClient, client: RawClient) -> None:
    """Revoke the client's token; another of the same user does not find the session any more."""
    assert client.token is not None
    token = await PersonalToken.objects.aget(prefix=client.token[:13])
    other = bearer(await sync_to_async(personal)())
    assert await ping(http, client, **other) == 200
    assert await sync_to_async(revoke_token)(token) == 1
    assert await ping(http, client, **other) == 404


async def test_one_that_is_revived_ends_with_the_token_that_revived_it(
    endpoint: Callable[..., None], redis_server: RedisServer
) -> None:
    endpoint(ON_MISS="revive")
    async with serving(), http_client() as http:
        client = await opened(http, await sync_to_async(personal)())
        with redis_server.client() as redis:
            redis.flushall()
        assert await ping(http, client) == 200
        await ends_with_its_token(http, client)


async def test_one_that_is_opened_in_an_outage_ends_with_its_token(endpoint: Callable[..., None]) -> None:
    endpoint(ON_STORE_DOWN="serve")
    async with serving(), http_client() as http:
        runtime = await runtime_for("default")
        client = await opened_without_the_store(http, runtime)
        await runtime.outage.settle()
        await ends_with_its_token(http, client)


async def test_one_that_another_process_records_after_an_outage_ends_with_its_token(
    endpoint: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "MOST_UNWRITTEN", 0)
    endpoint(ON_STORE_DOWN="serve")
    async with serving(), http_client() as http:
        client = await opened_without_the_store(http, await runtime_for("default"))
        assert await ping(http, client) == 200
        await ends_with_its_token(http, client)


async def opened_without_the_store(http: httpx2.AsyncClient, runtime: Runtime) -> RawClient:
    text = await sync_to_async(personal)()
    with no_store(runtime):
        return await opened(http, text)
