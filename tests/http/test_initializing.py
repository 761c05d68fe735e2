"""The request that opens a session, step by step: what refuses it, what is recorded, and what its client gets."""

import json
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from mcp_types import INVALID_PARAMS

from mcp_sessions import counting, ids, lifecycle
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import opening
from mcp_sessions.http.opening import MAX_HANDSHAKE_BYTES, initialize
from mcp_sessions.records import Handshake, Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk.kernel import Refused
from mcp_sessions.serving.outage import Outage
from mcp_sessions.signals import session_created
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Message
from tests.serving.contexts import Process
from tests.store.harness import CLAUDE, START, client_named

WHO = Identity(principal="user:1", credential="token 1")
RESPONSE = {"jsonrpc": "2.0", "id": 7, "result": {"protocolVersion": "2025-11-25"}}


class Opening(Process):
    """A process to which a client comes; by the store's clock it is START."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(**conf)
        self.sent: list[Message] = []
        self.handshake: Handshake = CLAUDE
        self.node.validity = mock.Mock(min_created_ms=0, now_ms=lambda: START)
        self.scope = {"client": ("127.0.0.1", 5), "headers": []}
        self.runtime: Any = mock.Mock(context=self.context, outage=Outage(self.context))
        self.runtime.blocks.any = False
        self.runtime.limits.refusal = mock.AsyncMock(return_value=None)
        self.runtime.server.kernel.initialize = mock.AsyncMock(side_effect=self._shake)

    async def _shake(self, *_: Any) -> Any:
        return RESPONSE, self.handshake

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def come(self, params: Any = None) -> int:
        """The status of the answer."""
        self.sent.clear()
        self.request = jsonrpc.Request(id=7, method="initialize", params=params)
        await initialize(self.runtime, self.request, WHO, self.scope, self._send)
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> Any:
        """The message."""
        body = self.sent[1]["body"]
        return json.loads(body.partition(b"data: ")[2] if body.startswith(b"event:") else body)

    @property
    def session_id(self) -> str | None:
        """What the client got."""
        found = dict(self.sent[0]["headers"]).get(b"mcp-session-id")
        return None if found is None else found.decode()

    async def recorded(self) -> Session | None:
        assert self.session_id is not None
        return await self.harness.store.run(sessions.get(ids.fingerprint(self.session_id)))


async def test_a_session_is_recorded_signalled_and_counted_before_its_client_has_its_id() -> None:
    created = mock.Mock()
    session_created.connect(created)
    process = Opening(alias="opens", namespace="shop", max_age=500)
    try:
        assert await process.come() == 200
    finally:
        session_created.disconnect(created)
    process.runtime.server.kernel.initialize.assert_awaited_once_with(process.request, process.scope)
    assert process.answer == RESPONSE
    session = await process.recorded()
    assert session is not None
    assert (session.principal, session.handshake.name, session.active) == ("user:1", "token 1", False)
    assert (session.created_ms, session.deadline_ms) == (START, START + 500_000)
    assert process.session_id is not None
    minted = ids.verify(process.session_id, "user:1", "shop")
    assert (minted.handshake, minted.deadline_ms, minted.unwritten) == (CLAUDE, START + 500_000, False)
    created.assert_called_once_with(signal=session_created, sender=Session, alias="opens", session=session)
    assert counting.since_the_start("opens").numbers == {"sessions_opened": 1}
    assert not process.runtime.limits.refusal.called


async def test_a_session_that_is_opened_counts_whatever_this_machines_clock_says() -> None:
    process = Opening()
    process.node.validity.min_created_ms = START + 5
    await process.come()
    session = await process.recorded()
    assert session is not None
    assert session.created_ms == START + 5


async def test_where_nothing_is_taken_on_no_session_is_opened() -> None:
    process = Opening()
    lifecycle.take_on_nothing(drains=True)
    try:
        assert await process.come() == 503
    finally:
        lifecycle.take_on_nothing(drains=False)
    assert process.answer["error"]["message"] == rejections.STOPPED.message
    assert not process.runtime.server.kernel.initialize.called


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"clientInfo": {"name": "rude"}}, "rude"),
        ({"clientInfo": {"name": 7}}, "7"),
        ({"clientInfo": {}}, ""),
        ({"clientInfo": 7}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_a_blocked_client_opens_none_where_anybody_is_blocked(params: Any, name: str | None) -> None:
    process = Opening()
    blocks = process.runtime.blocks
    blocks.refuse = mock.Mock(return_value=True)
    assert await process.come(params) == 200
    blocks.any = True
    assert await process.come(params) == (200 if name is None else 403)
    assert blocks.refuse.call_args_list == ([] if name is None else [mock.call(Asker(client=name))])
    blocks.refuse.return_value = False
    assert await process.come(params) == 200


async def test_it_counts_in_the_limits_of_its_principal_and_address() -> None:
    process = Opening(rate_limits={"initialize per principal": "1/s"})
    assert await process.come() == 200
    who = Who("user:1", None, "127.0.0.1")
    process.runtime.limits.refusal.assert_awaited_once_with(("requests", "initialize"), who)
    process.runtime.limits.refusal.return_value = rejections.TOO_MANY_REQUESTS
    assert await process.come() == 503
    assert process.session_id is None


@pytest.mark.parametrize(("response", "kind"), [("sse", b"text/event-stream"), ("auto", b"application/json")])
async def test_what_the_server_refuses_and_what_is_too_large_opens_no_session(
    response: str, kind: bytes
) -> None:
    process: Any = Opening(response=response)
    await process.come()
    assert dict(process.sent[0]["headers"])[b"content-type"] == kind
    size = len(client_named("").text)
    process.handshake = client_named("x" * (MAX_HANDSHAKE_BYTES - size))
    assert await process.come() == 200
    assert process.session_id is not None
    process.handshake = client_named("x" * (MAX_HANDSHAKE_BYTES - size + 1))
    asked = len(process.store.asked)
    assert await process.come() == 200
    message = f"clientInfo and capabilities exceed {MAX_HANDSHAKE_BYTES} bytes"
    assert process.answer == jsonrpc.error_response(7, {"code": INVALID_PARAMS, "message": message})
    assert dict(process.sent[0]["headers"])[b"content-type"] == kind
    error = jsonrpc.error_response(7, {"code": -32602, "message": "no"})
    process.runtime.server.kernel.initialize = mock.AsyncMock(side_effect=Refused(error))
    assert await process.come() == 200
    assert process.answer == error
    assert dict(process.sent[0]["headers"])[b"content-type"] == kind
    assert process.session_id is None
    assert len(process.store.asked) == asked


async def test_at_a_cap_it_is_told_to_come_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "_refused", Repeats(opening.logger, "refused"))
    process = Opening(max_sessions_per_principal=1, alias="is full")
    assert await process.come() == 200
    assert await process.come() == 503
    assert process.answer["error"]["message"] == rejections.TOO_MANY_SESSIONS.message
    assert counting.since_the_start("is full").numbers == {
        "sessions_opened": 1,
        "sessions_refused": 1,
        "limited:MAX_SESSIONS_PER_PRINCIPAL": 1,
    }
    [told] = [each for each in caplog.messages if "Refused" in each]
    assert told.startswith("Refused a new session on endpoint 'is full': ")


@pytest.mark.parametrize("serves", [True, False])
async def test_without_the_store_it_is_opened_by_its_id_alone_or_refused(serves: bool) -> None:
    process = Opening(on_store_down="serve" if serves else "503")
    process.store.away = True
    if not serves:
        with pytest.raises(StoreUnavailable):
            await process.come()
        assert process.sent == []
        return
    assert await process.come() == 200
    assert process.session_id is not None
    assert ids.verify(process.session_id, "user:1", process.conf.namespace).unwritten
    assert list(process.runtime.outage._opened) == [ids.fingerprint(process.session_id)]


async def test_another_id_is_made_where_the_place_for_the_first_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def create(fingerprint: str, **options: Any) -> Any:
        given.update(options, fingerprint=fingerprint)
        return "the creation"

    async def run(_: Any) -> Any:
        fingerprint, handshake = given["another"]()
        return SimpleNamespace(fingerprint=fingerprint, handshake=handshake)

    monkeypatch.setattr(opening.sessions, "create", create)  # type: ignore[attr-defined]
    process = Opening()
    monkeypatch.setattr(process.store, "run", run)
    process.node.validity.min_created_ms = 3
    await process.come()
    assert process.session_id is not None
    assert ids.fingerprint(process.session_id) != given["fingerprint"]
    assert ids.verify(process.session_id, "user:1", process.conf.namespace).handshake == CLAUDE
    assert (given["first_ms"], given["created_ms"], given["limits"]) == (3, START, process.conf.limits)
