"""TOKEN_VERIFIER: every request is authenticated, and a session belongs to the principal that opened it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.served.tokens import RESOURCE
from tests.support.gates import Gate
from tests.support.mcp_client import META, MODERN, RawClient, events, message_of, messages
from tests.support.processes import Process, serving_everything, wait_until
from tests.support.redis import RedisServer


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two processes that want tokens."""
    directory: Path = tmp_path_factory.mktemp("authentication")
    with serving_everything(
        directory,
        redis_server.url,
        MCP_TOKEN_VERIFIER="tests.served.tokens.Verifier",
        MCP_ISSUER_URL="https://issuer.example.com",
        MCP_RESOURCE_URL=RESOURCE,
        MCP_REQUIRED_SCOPES="mcp",
    ) as running:
        yield running


@pytest.fixture
def client(a: str) -> RawClient:
    """Ann, with a session."""
    client = RawClient(token="ann-1")
    client.initialize(a)
    return client


@pytest.mark.protocol("H29")
def test_a_session_id_does_not_authenticate(a: str, client: RawClient) -> None:
    thief = RawClient(session_id=client.session_id)
    for response in (thief.post(a, thief.request("ping")), thief.delete(a)):
        assert response.status_code == 401
        challenge = response.headers["www-authenticate"]
        assert challenge.startswith("Bearer ")
        assert "resource_metadata=" in challenge
    assert client.value(a, "add", a=1, b=1) == 2


def test_a_token_that_is_not_valid_is_refused(a: str) -> None:
    stranger = RawClient(token="eve-1")
    assert stranger.post(a, stranger.initialize_message()).status_code == 401


def test_a_missing_scope_is_refused(a: str) -> None:
    client = RawClient(token="unscoped-1")
    response = client.post(a, client.initialize_message())
    assert response.status_code == 403
    assert "insufficient_scope" in response.headers["www-authenticate"]


@pytest.mark.protocol("H29")
def test_a_refreshed_token_keeps_the_session(a: str, b: str, client: RawClient) -> None:
    client.token = "ann-2"
    assert client.value(b, "add", a=1, b=1) == 2
    seen = client.call(a, "who")["result"]["structuredContent"]
    assert seen["principal"] == 'oauth:["https://issuer.example.com","ann"]'


@pytest.mark.protocol("H25", "H29")
def test_a_stranger_gets_the_404_of_an_unknown_id_and_changes_nothing(
    a: str, b: str, client: RawClient
) -> None:
    bob = RawClient(token="bob-1", session_id=client.session_id)
    unknown = RawClient(token="bob-1", session_id="unknown")
    for url in (a, b):
        answers = [one.post(url, one.request("ping")) for one in (bob, unknown)]
        answers += [one.delete(url) for one in (bob, unknown)]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
    assert client.value(b, "add", a=1, b=1) == 2


def test_the_protected_resource_metadata_is_served(a: str, client: RawClient) -> None:
    response = client.http.get(a + "/.well-known/oauth-protected-resource/mcp")
    assert response.status_code == 200
    metadata = response.json()
    assert metadata["resource"] == RESOURCE
    assert metadata["authorization_servers"] == ["https://issuer.example.com"]
    assert metadata["scopes_supported"] == ["mcp"]


def test_a_browser_may_ask_before_it_sends_a_token(a: str, client: RawClient) -> None:
    headers = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    response = client.http.options(a + "/mcp", headers=headers)
    assert response.status_code == 204
    assert "authorization" in response.headers["access-control-allow-headers"]
    assert response.headers["access-control-allow-origin"] == "https://app.example.com"


def test_the_modern_era_is_authenticated_too(a: str) -> None:
    stranger = RawClient()
    message = stranger.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
    assert stranger.post(a, message, mcp_protocol_version="2026-07-28").status_code == 401


#: Seconds after its expiry within which a stream has ended: the token is accepted for the second in which it expires.
LATE_SECONDS = 2.5


def expiring() -> tuple[str, int]:
    """A token of Ann's that expires soon, and when."""
    until = int(time.time()) + 2
    return f"ann-until-{until}", until


def expires(response: httpx2.Response, until: int) -> str:
    """Read a stream to its end, which is that of its token; the last event's id."""
    text = response.read().decode()
    assert until <= time.time() < until + LATE_SECONDS
    assert text.endswith("retry: 100\n\n")
    ids: list[str] = re.findall(r"^id: (.+)$", text, re.MULTILINE)
    return ids[-1] if ids else ""


@pytest.mark.protocol("H9")
def test_a_listening_client_comes_back_when_its_token_has_expired(a: str, client: RawClient) -> None:
    client.token, until = expiring()
    with client.get(a) as listening:
        start = expires(listening, until)
    assert client.post(a, client.request("ping")).status_code == 401
    client.token = "ann-2"
    with client.get(a, last_event_id=start) as listening:
        assert client.value(a, "announce") == "announced"
        assert next(messages(listening))["method"] == "notifications/resources/list_changed"


@pytest.mark.protocol("H9", "H20")
def test_a_call_goes_on_when_the_token_of_its_stream_has_expired(
    a: str, client: RawClient, gate: Gate
) -> None:
    client.token, until = expiring()
    with client.stream(a, client.calling("report", gate=gate.path)) as response:
        gate.reached()
        last_id = expires(response, until)
    client.token, until = expiring()
    with client.get(a, last_event_id=last_id) as response:
        assert expires(response, until) == last_id, "a resumed stream ends with its own token"
    client.token = "ann-2"
    with client.get(a, last_event_id=last_id) as response:
        gate.open()
        *_, last = events(response)
    assert gate.outcome() == "passed"
    assert message_of(last)["result"]["structuredContent"] == {"result": "passed"}


@pytest.mark.protocol("M5")
def test_a_listening_client_of_the_modern_era_comes_back_when_its_token_has_expired(a: str) -> None:
    token, until = expiring()
    client = RawClient(token=token)
    wanted = {"notifications": {"toolsListChanged": True}, "_meta": META}
    listen = client.request("subscriptions/listen", wanted)
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    with client.stream(a, listen, **headers) as response:
        first, last = messages(response)
    assert 0 < time.time() - until < LATE_SECONDS
    assert first["method"] == "notifications/subscriptions/acknowledged"
    assert last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == listen["id"]
    client.token = "ann-2"
    with client.stream(a, listen, **headers) as response:
        assert next(messages(response)) == first


@pytest.mark.protocol("M3")
def test_a_call_of_the_modern_era_outlives_its_token(a: str, gate: Gate) -> None:
    token, until = expiring()
    client = RawClient(token=token)
    params = {"name": "report", "arguments": {"gate": gate.path}, "_meta": {**META, "progressToken": "p"}}
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "report"}
    with client.stream(a, client.request("tools/call", params), **headers) as response:
        heard = messages(response)
        assert next(heard)["method"] == "notifications/progress"
        gate.reached()
        wait_until(lambda: time.time() > until + LATE_SECONDS, what="the token to expire")
        gate.open()
        *_, last = heard
    assert last["result"]["structuredContent"] == {"result": "passed"}
