"""Which session a request belongs to: what its id says, what the store has, and what is opened again."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import counting, ids
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import lookup
from mcp_sessions.http.lookup import Counts
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Session
from mcp_sessions.serving.limits import RateLimits
from mcp_sessions.serving.outage import Outage
from mcp_sessions.signals import session_revived
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.transport import rejections
from mcp_sessions.transport.rejections import Rejection
from tests.serving.contexts import Process
from tests.store.harness import CLAUDE, HOUR, START

WHO = Identity(principal="user:1", credential="token 1")
TOO_MANY = Rejection(status=429, message="too many")


class Looking(Process):
    """A process that looks sessions up; by the store's clock it is `now`."""

    def __init__(self, *, unwritten: bool = False, age_ms: int = 0, **conf: Any) -> None:
        # Not the same objects as the constants: settings may come from the environment.
        copied = {key: "".join(value) if isinstance(value, str) else value for key, value in conf.items()}
        super().__init__(**copied)
        self.now = START
        self.node.validity = mock.Mock(
            min_created_ms=0, now_ms=lambda: self.now, counts=mock.Mock(return_value=True)
        )
        self.session_id = ids.mint(
            CLAUDE,
            principal="user:1",
            namespace=self.conf.namespace,
            created_ms=START - age_ms,
            max_age_ms=self.conf.limits.max_age_ms,
            unwritten=unwritten,
        )
        self.limits: Any = RateLimits(self.context)
        self.blocks = mock.Mock(any=False)
        self.runtime: Any = SimpleNamespace(
            context=self.context, limits=self.limits, blocks=self.blocks, outage=Outage(self.context)
        )

    async def open(self) -> SignedId:
        """The session of the id, with a record."""
        await self.harness.open(principal="user:1", fingerprint=self.session_id.fingerprint, active=False)
        return self.session_id

    async def touch(self, header: bytes | None = b"its own", **options: Any) -> Any:
        own = self.session_id.text.encode() if header == b"its own" else header
        return await lookup.touch(self.runtime, own, WHO, **{"call": "ping", **options})

    async def refusal(self, header: bytes | None = b"its own") -> Any:
        own = self.session_id.text.encode() if header == b"its own" else header
        scope = {"client": ("127.0.0.1", 5), "headers": []}
        return await lookup.refusal(self.runtime, own, WHO, scope)

    def losing_records(self, patch: pytest.MonkeyPatch, *, fails: int) -> None:
        """From its n-th run on the store is away."""
        run, runs = self.store.run, []

        async def counted(work: Any) -> Any:
            runs.append(work)
            self.store.away = len(runs) >= fails
            return await run(work)

        patch.setattr(self.store, "run", counted)


async def test_the_session_of_an_id_is_found_slid_and_counted() -> None:
    process = Looking()
    session_id = await process.open()
    first = await process.touch(call="tools/call:add")
    assert (first.fingerprint, first.principal) == (session_id.fingerprint, "user:1")
    assert (first.requests, first.last_call, first.initialized) == (1, "tools/call:add", False)
    ready = await process.touch(call="ready", initialized=True)
    assert (ready.requests, ready.initialized) == (2, True)
    stranger = Identity(principal="user:2")
    found = await lookup.touch(process.runtime, session_id.text.encode(), stranger, call="ping")
    assert found is rejections.SESSION_NOT_FOUND


@pytest.mark.parametrize(
    ("header", "rejection"),
    [
        (None, rejections.NO_SESSION_ID),
        (b"x", rejections.SESSION_NOT_FOUND),
        ("é".encode("latin-1"), rejections.SESSION_NOT_FOUND),
    ],
)
async def test_what_is_no_id_of_ours_is_refused_and_counts_for_whoever_sends_it(
    header: bytes | None, rejection: Rejection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    process = Looking()
    process.limits.refusal = mock.AsyncMock(return_value=None)
    assert await process.touch(header) is rejection
    assert await process.refusal(header) is rejection
    assert not process.limits.refusal.called
    counts = Counts(("requests",), "10.0.0.9")
    assert await process.touch(header, counts=counts) is rejection
    process.limits.refusal.assert_awaited_once_with(("requests",), Who("user:1", None, "10.0.0.9"))
    process.limits.refusal.return_value = TOO_MANY
    assert await process.touch(header, counts=counts) is TOO_MANY
    assert process.store.asked == []
    assert len(caplog.messages) == (0 if header is None else 4)


async def test_a_session_that_does_not_count_any_more_is_not_found_and_not_asked_for() -> None:
    process = Looking()
    session_id, validity = await process.open(), process.node.validity
    assert isinstance(await process.touch(), Session)
    validity.counts.return_value = False  # type: ignore[attr-defined]
    assert isinstance(await process.touch(), Session), "no moment is set"
    validity.min_created_ms = 5
    asked = len(process.store.asked)
    assert await process.touch() is rejections.SESSION_NOT_FOUND
    assert await process.refusal() is rejections.SESSION_NOT_FOUND
    assert len(process.store.asked) == asked
    validity.counts.assert_called_with(session_id.created_ms, setting_ms=0)  # type: ignore[attr-defined]
    validity.counts.return_value = True  # type: ignore[attr-defined]
    assert isinstance(await process.touch(), Session)


async def test_a_session_takes_its_tokens_with_the_look_up() -> None:
    process = Looking(rate_limits={"requests per session": "1/d", "requests per address": "9/d"})
    await process.open()
    process.limits.calls = mock.Mock(side_effect=process.limits.calls)
    counts = Counts(("requests",), "10.0.0.9")
    found = await process.touch(counts=counts)
    assert isinstance(found, Session)
    assert found.requests == 1
    who = Who("user:1", process.session_id.fingerprint, "10.0.0.9")
    process.limits.calls.assert_called_once_with(("requests",), who)
    refused: Any = await process.touch(counts=counts)
    assert refused.status == 429
    asked = len(process.store.asked)
    assert (await process.touch(counts=counts)).status == 429
    assert len(process.store.asked) == asked, "it is known that the bucket is empty"
    assert (await process.refusal()).status == 429
    process.limits.calls.assert_called_with(("requests",), who._replace(address="127.0.0.1"))
    assert len(process.store.asked) == asked


@pytest.mark.parametrize("blocked", [True, False])
async def test_the_client_of_a_session_may_be_blocked_by_its_name(blocked: bool) -> None:
    process = Looking()
    await process.open()
    process.blocks.refuse = mock.Mock(return_value=blocked)
    assert isinstance(await process.touch(), Session)
    assert not process.blocks.refuse.called
    process.blocks.any = True
    found = await process.touch()
    assert (found is rejections.BLOCKED) is blocked
    process.blocks.refuse.assert_called_once_with(Asker(client="claude-ai"))
    assert await process.touch(None) is rejections.NO_SESSION_ID


async def test_whether_a_large_body_is_refused_changes_nothing_of_its_session() -> None:
    process = Looking()
    await process.open()
    assert await process.refusal() is None
    found = await process.harness.store.run(sessions.get(process.session_id.fingerprint))
    assert found is not None
    assert (found.requests, found.active) == (0, False)
    unknown = Looking()
    assert await unknown.refusal() is rejections.SESSION_NOT_FOUND
    assert await Looking(on_miss="revive").refusal() is None


async def test_without_the_store_a_session_is_served_from_its_id_or_over() -> None:
    for serves in (True, False):
        process = Looking(on_store_down="serve" if serves else "503")
        process.store.away = True
        if not serves:
            for ask in (process.touch(), process.refusal()):
                with pytest.raises(StoreUnavailable):
                    await ask
            continue
        found = await process.touch()
        assert (found.is_stored, found.principal) == (False, "user:1")
        assert await process.refusal() is None
        process.runtime.outage.hear_ended([process.session_id.fingerprint])
        assert await process.touch() is rejections.SESSION_NOT_FOUND
        assert await process.refusal() is rejections.SESSION_NOT_FOUND


@pytest.mark.parametrize(
    ("conf", "unwritten", "age_ms", "opens"),
    [
        ({}, False, 0, False),
        ({"on_miss": "revive"}, False, 2 * HOUR, True),
        ({"on_store_down": "serve"}, True, HOUR - 1, True),
        ({"on_store_down": "serve"}, True, HOUR, False),
        ({"on_store_down": "serve"}, False, 0, False),
        ({"on_store_down": "503"}, True, 0, False),
    ],
)
async def test_a_session_without_a_record_is_opened_again_where_it_may_be_missing(
    conf: dict[str, Any], unwritten: bool, age_ms: int, opens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    revived = mock.Mock()
    session_revived.connect(revived)
    process = Looking(**conf, unwritten=unwritten, age_ms=age_ms)
    counted = counting.since_the_start("default").numbers.get("sessions_revived", 0)
    try:
        found = await process.touch(call="tools/call:add")
        again = await process.touch()
    finally:
        session_revived.disconnect(revived)
    if not opens:
        assert found is again is rejections.SESSION_NOT_FOUND
        assert not revived.called
        return
    assert (found.created_ms, found.revived, found.last_call) == (START - age_ms, True, "tools/call:add")
    assert found.handshake.name == "token 1", "of the credential that opened it again"
    assert again.requests == 2
    revived.assert_called_once_with(signal=session_revived, sender=Session, alias="default", session=found)
    assert counting.since_the_start("default").numbers["sessions_revived"] == counted + 1
    digest = process.session_id.fingerprint[:12]
    assert caplog.messages == [f"Session {digest} was revived for 'claude-ai'."]


async def test_an_id_that_does_not_carry_enough_opens_nothing_again() -> None:
    process = Looking(on_miss="revive")
    with mock.patch.object(SignedId, "handshake", None):
        assert await process.touch() is rejections.SESSION_NOT_FOUND


async def test_a_session_that_ended_or_that_another_request_has_opened_is_not_opened_again() -> None:
    revived = mock.Mock()
    session_revived.connect(revived)
    process = Looking(on_miss="revive")
    missed = lookup._missed(process.runtime, process.session_id, WHO, "ping")
    await process.open()
    found: Any = await missed
    assert found.fingerprint == process.session_id.fingerprint
    await process.store.run(sessions.end(found.fingerprint, principal=None, reason="deleted"))
    assert await process.touch() is rejections.SESSION_NOT_FOUND
    session_revived.disconnect(revived)
    assert not revived.called


async def test_at_a_cap_no_session_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    alias = "opens at a cap"
    process = Looking(on_miss="revive", max_sessions_per_principal=1, alias=alias)
    await process.harness.open(principal="user:1")
    process.harness.limit(max_sessions_per_principal=1)
    assert await process.touch() is rejections.TOO_MANY_SESSIONS
    numbers = counting.since_the_start(alias).numbers
    assert numbers == {"sessions_refused": 1, "limited:MAX_SESSIONS_PER_PRINCIPAL": 1}
    [told] = caplog.messages
    assert told.startswith(f"Did not revive a session of endpoint {alias!r}: ")


@pytest.mark.parametrize("unwritten", [True, False])
async def test_a_store_that_goes_away_between_may_have_said_that_a_session_ended(
    monkeypatch: pytest.MonkeyPatch, unwritten: bool
) -> None:
    process = Looking(on_miss="revive", on_store_down="serve", unwritten=unwritten)
    process.losing_records(monkeypatch, fails=2)
    if unwritten:
        found = await process.touch()
        assert (found.fingerprint, found.is_stored) == (process.session_id.fingerprint, False)
        process.runtime.outage.hear_ended([found.fingerprint])
        process.losing_records(monkeypatch, fails=3)
        process.store.away = False
        assert await process.touch() is rejections.SESSION_NOT_FOUND
    else:
        with pytest.raises(StoreUnavailable):
            await process.touch()
