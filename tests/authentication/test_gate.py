"""What the gate of an endpoint passes on, and what it answers to those whom it refuses, to the letter."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from mcp_sessions.authentication import identity
from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.gate import Gate
from mcp_sessions.authentication.identity import KEY, Identity, of_token, of_user
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import AuthenticationUnavailable, CredentialsRefused
from mcp_sessions.transport.asgi import Message, Receive, Scope, Send

NOW = 1_800_000_000
USER = SimpleNamespace(pk=7, is_authenticated=True)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "time", SimpleNamespace(time=lambda: NOW + 0.5))


class Knows(Authenticator):
    """Knows some credentials by the value of `Authorization`."""

    advice = "Do this."

    def __init__(self, *known: Identity | Exception, **more: Any) -> None:
        super().__init__(Endpoint(alias="shop", server="unused"))
        self.known = {str(number): each for number, each in enumerate(known)}
        vars(self).update(more)

    async def authenticate(self, scope: Scope) -> Identity | None:
        found = self.known.get(dict(scope["headers"]).get(b"authorization", b"").decode())
        if isinstance(found, Exception):
            raise found
        return found


class Around:
    """A gate, and what it lets through."""

    def __init__(self, *authenticators: Authenticator, scopes: Any = (), **more: Any) -> None:
        conf = Endpoint(alias="shop", server="unused", required_scopes=scopes)
        given: dict[str, Any] = {"metadata_url": None, "require_user": True, "trusts_scope": False, **more}
        self.gate = Gate(self.application, conf, authenticators, **given)
        self.seen: Scope = {}
        self.token: AccessToken | None = None

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = scope
        known = auth_context_var.get()
        self.token = None if known is None else known.access_token

    async def ask(self, authorization: str | None = None, **scope: Any) -> list[Message]:
        """What is sent to a client with these credentials; nothing if it is let through."""
        headers = [] if authorization is None else [(b"authorization", authorization.encode())]
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        self.seen = {}
        await self.gate({"type": "http", "headers": headers, **scope}, None, send)  # type: ignore[arg-type]
        assert auth_context_var.get() is None
        return sent


def refused(sent: list[Message]) -> tuple[int, list[str], Mapping[str, str]]:
    """The status, the challenges, and the body of a refusal."""
    start, body = sent
    headers = start["headers"]
    assert (b"content-type", b"application/json") in headers
    assert (b"content-length", b"%d" % len(body["body"])) in headers
    challenges = [value.decode() for name, value in headers if name == b"www-authenticate"]
    return start["status"], challenges, json.loads(body["body"])


async def test_who_has_no_credentials_reads_how_to_get_some() -> None:
    ways = (Knows(scheme="Cookie"), Knows(advice=""), Knows(), Knows(advice="Or that.", scheme="Cookie"))
    gate = Around(*ways, scopes=["a", "b"], metadata_url="https://x/.well-known")
    advice = "Authentication required. Do this. Or: Or that."
    facts = f'error="invalid_token", error_description="{advice}", scope="a b"'
    challenges = [
        f'{scheme} {facts}, resource_metadata="https://x/.well-known"' for scheme in ("Cookie", "Bearer")
    ]
    body = {"error": "invalid_token", "error_description": advice}
    assert refused(await gate.ask()) == (401, challenges, body)
    plain = 'Bearer error="invalid_token", error_description="Authentication required."'
    assert refused(await Around().ask())[:2] == (401, [plain])


async def test_credentials_that_nobody_accepts_are_refused_where_something_authenticates() -> None:
    gate = Around(Knows(), require_user=False)
    status, _, body = refused(await gate.ask("unknown"))
    assert (status, body["error"]) == (401, "invalid_token")
    assert body["error_description"].startswith("These credentials are not accepted: unknown, expired")
    nothing = Around(require_user=False)
    assert await nothing.ask("unknown") == []
    assert nothing.seen[KEY].principal == "anonymous"


async def test_the_first_that_knows_the_credentials_decides() -> None:
    ann, old = Identity(principal="ann", expires_at=NOW), Identity(principal="old", expires_at=NOW - 1)
    gate = Around(Knows(ann, old, CredentialsRefused("Revoked."), AuthenticationUnavailable()), Knows(old))
    assert await gate.ask("0") == []
    assert gate.seen[KEY] is ann
    for number, said in (("1", "These credentials have expired."), ("2", "Revoked.")):
        status, _, body = refused(await gate.ask(number))
        assert (status, body["error_description"]) == (401, said)
    start, _ = await gate.ask("3")
    assert (start["status"], gate.seen) == (503, {})


async def test_who_is_let_through_is_known_inside_and_to_the_sdk() -> None:
    token = AccessToken(token="t", client_id="c", scopes=["b", "a"], subject="ann")
    gate = Around(Knows(of_token(token), of_user(USER), of_user(USER, scopes=frozenset("ab"))), scopes=["a"])
    assert await gate.ask("0", path="/mcp") == []
    assert (gate.seen["path"], gate.seen["auth"].scopes, gate.token) == ("/mcp", ["a", "b"], token)
    of_token_itself = gate.seen["user"]
    assert isinstance(of_token_itself, AuthenticatedUser)
    for number, scopes in (("1", []), ("2", ["a", "b"])):
        assert await gate.ask(number) == []
        assert (gate.seen["user"], gate.seen["auth"].scopes) == (USER, scopes)
        assert gate.token == AccessToken(token="", client_id="", scopes=scopes, subject="user:7")


async def test_each_required_scope_is_needed_of_credentials_that_have_scopes() -> None:
    def scoped(*scopes: str) -> Identity:
        return Identity(principal="ann", scopes=frozenset(scopes))

    gate = Around(Knows(scoped("a", "b"), scoped("a"), scoped()), scopes=["a", "b"])
    assert await gate.ask("0") == []
    for number, lacking in (("1", "b"), ("2", "a")):
        status, [challenge], body = refused(await gate.ask(number))
        assert (status, gate.seen) == (403, {})
        assert body == {"error": "insufficient_scope", "error_description": f"Required scope: {lacking}"}
        assert challenge.endswith('scope="a b"')


async def test_a_user_in_the_scope_counts_only_if_that_is_trusted() -> None:
    ways = (Knows(),)
    trusting = Around(*ways, trusts_scope=True)
    assert await trusting.ask(user=USER) == []
    assert (trusting.seen["user"], trusting.seen[KEY].principal) == (USER, "user:7")
    assert refused(await trusting.ask())[0] == 401
    assert refused(await Around(*ways).ask(user=USER))[0] == 401
    open_to_all = Around(*ways, require_user=False)
    assert await open_to_all.ask(user=USER) == []
    assert (open_to_all.seen["user"], open_to_all.seen[KEY].principal) == (None, "anonymous")
    assert "auth" not in open_to_all.seen
