"""Endpoints for tokens in this process, and what clients ask them."""

from collections.abc import AsyncIterator
from typing import Final

import httpx2
import pytest
from pytest_django import Settings

from mcp_sessions.testing import http_client, serving, url_of
from tests.served.tokens import RESOURCE
from tests.support.mcp_client import RawClient

#: A token of hers.
ANN: Final = "ann-1"


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """Two endpoints, `default` and `other`, which accept the same tokens; Ann has `ann-1`, Bob has `bob-1`."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    entry = {
        "SERVER": "tests.served.curious.server",
        "AUTHENTICATION": ["token"],
        "TOKEN_VERIFIER": "tests.served.tokens.Verifier",
        "ISSUER_URL": "https://issuer.example.com",
        "RESOURCE_URL": RESOURCE,
        "ALLOWED_ORIGINS": ["https://app.example.com"],
    }
    settings.MCP_SESSIONS = {
        "default": entry | {"NAMESPACE": "one"},
        "other": entry | {"NAMESPACE": "other", "PATH": "other"},
    }
    async with serving(), http_client() as client:
        yield client


async def opened(http: httpx2.AsyncClient, token: str = ANN, **headers: str) -> RawClient:
    """A client with a session at the endpoint `default`."""
    client = RawClient(token=token)
    sends = client.headers(**headers)
    answer = await http.post(url_of(), json=client.initialize_message(), headers=sends)
    assert answer.status_code == 200, answer.text
    client.session_id = answer.headers["mcp-session-id"]
    return client


async def ping(http: httpx2.AsyncClient, client: RawClient, endpoint: str = "default") -> int:
    answer = await http.post(url_of(endpoint), json=client.request("ping"), headers=client.headers())
    return answer.status_code
