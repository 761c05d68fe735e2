"""The whole way with the SDK's own OAuth client: metadata, registration, consent, token, call, refresh, revocation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from tests.oauth.conftest import SCOPE, Site
from tests.oauth.person import Person
from tests.served.client_document import DOCUMENT, REDIRECT
from tests.support.mcp_client import RawClient

pytestmark = pytest.mark.slow


class Storage:
    """Keeps what a client is given."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Program:
    """An MCP client on somebody's machine."""

    def __init__(self, site: Site, person: Person, *, document: str | None = None) -> None:
        self.storage = Storage()
        self.requests: list[str] = []
        self._site, self._person = site, person
        self._answer: dict[str, str] = {}
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(REDIRECT)], client_name="A program", token_endpoint_auth_method="none"
        )
        self.provider = OAuthClientProvider(
            site.resource, metadata, self.storage, self._open, self._wait, client_metadata_url=document
        )

    @property
    def token(self) -> str:
        assert self.storage.tokens is not None
        return self.storage.tokens.access_token

    async def _open(self, url: str) -> None:
        self._answer = await sync_to_async(self._person.agree)(url)

    async def _wait(self) -> AuthorizationCodeResult:
        answer = self._answer
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

    @asynccontextmanager
    async def connected(self, mode: Any) -> AsyncIterator[Client]:
        async def note(request: httpx2.Request) -> None:
            self.requests.append(f"{request.method} {request.url.path}")

        async with httpx2.AsyncClient(
            auth=self.provider, timeout=30, event_hooks={"request": [note]}
        ) as http:
            connection = streamable_http_client(self._site.resource, http_client=http)
            async with Client(connection, mode=mode) as client:
                yield client


async def asks_who(client: Client) -> dict[str, Any]:
    return dict((await client.call_tool("whoami", {})).structured_content or {})


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("document", [None, DOCUMENT], ids=["registered", "with a document"])
async def test_a_client_goes_the_whole_way(site: Site, ann: Person, mode: str, document: str | None) -> None:
    program = Program(site, ann, document=document)
    async with program.connected(mode) as client:
        found = await asks_who(client)
        assert found["name"] == "ann"
        assert "Use the library in your name" in ann.asked[0]
        assert program.storage.tokens is not None
        assert program.storage.tokens.scope == SCOPE
        [[stored]] = site.rows("SELECT resource FROM oauth2_provider_accesstoken ORDER BY id DESC LIMIT 1")
        assert stored == f'["{site.resource}"]'
        first, begun = program.token, len(program.requests)
        assert ("POST /oauth/register/" in program.requests) == (document is None)

        program.provider.context.token_expiry_time = 1.0
        assert await asks_who(client) == found, "the same principal"
        assert "POST /oauth/token/" in program.requests[begun:]
        assert len(ann.asked) == 1, "nobody was asked again"
        assert program.token != first
        assert status(site.b.url, first) == 401, "the token before is over, on every process"

        revoked = httpx2.post(
            f"{site.url}/oauth/revoke_token/",
            data={"token": program.token, "client_id": program.storage.client.client_id},  # type: ignore[union-attr]
        )
        assert revoked.status_code == 200
        assert {status(url, program.token) for url in (site.a.url, site.b.url)} == {401}
        # The refresh token has gone with it: the client has to ask its user.
        assert await asks_who(client) == found
        assert len(ann.asked) == 2


def status(url: str, token: str) -> int:
    client = RawClient(token=token)
    return client.post(url, client.initialize_message()).status_code
