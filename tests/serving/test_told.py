"""What a process does with what it is told: by other processes, and by operators."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import Mock

import pytest

from mcp_sessions import lifecycle
from mcp_sessions.cluster.notifications import (
    CallCancelled,
    Cancelled,
    DrainAsked,
    MinCreatedRaised,
    Notification,
    OperatorActed,
    ReplyArrived,
    SessionsEnded,
    StreamChanged,
    StreamClaimed,
    StreamDisconnected,
    StreamReleased,
)
from mcp_sessions.serving import operating as serving_operating
from mcp_sessions.serving.inbox import Inbox
from mcp_sessions.serving.modern import ModernExchange
from mcp_sessions.serving.operating import Operating
from mcp_sessions.store.calls import sessions
from tests.serving.contexts import Alone, Process

SESSION: Final = "f" * 64


def exchange(number: int = 1, *, stream: Any = None, waits: int = 0, response: Any = None) -> Any:
    begun = SimpleNamespace(call="tools/call:add", fingerprint=SESSION)
    return Mock(number=number, stream=stream, waits_for_client=waits, response=response, begun=begun)


def writer(stream: str, token: int | None) -> Any:
    """The stream of a request, with the token of its claim."""
    made = Mock(claim=None if token is None else SimpleNamespace(token=token))
    made.name = stream
    return made


class Told(Process):
    """A process whose parts remember what they are told."""

    def __init__(self, *exchanges: Any) -> None:
        super().__init__()
        self.parts = Mock()
        self.parts.admission.of.return_value = list(exchanges)
        self.parts.open_streams.of.return_value = [self.parts.reader]
        self.inbox = Inbox(
            self.context,
            self.parts.admission,
            self.parts.open_streams,
            self.parts.client_requests,
            self.parts.listeners,
            self.parts.outage,
            self.parts.operating,
        )

    def done(self, notification: Notification) -> list[str]:
        """Which parts did what."""
        self.inbox.hear(notification, "")
        return [
            f"{name}{tuple(arguments)}{options or ''}" for name, arguments, options in self.parts.mock_calls
        ]


@pytest.mark.parametrize(
    ("notification", "done"),
    [
        (StreamChanged(fingerprint="f", stream="s"), ["open_streams.nudge('f', 's')"]),
        (StreamReleased(fingerprint="f", token=7), ["open_streams.hear_released('f', 7)"]),
        (
            StreamDisconnected(fingerprint="f", stream="s", token=7),
            ["open_streams.disconnect('f', 's', 7)"],
        ),
        (ReplyArrived(fingerprint="f", request_id="q"), ["client_requests.hear('f', 'q')"]),
        (Cancelled(requests=("f:1",)), ["admission.cancel_named(('f:1',),)"]),
        (CallCancelled(node=Alone.id, number=7, by="olga"), ["operating.cancel(7, 'olga')"]),
        (
            DrainAsked(node=Alone.id, drains=True, by="olga"),
            ["operating.drain(){'drains': True, 'by': 'olga'}"],
        ),
        (
            SessionsEnded(fingerprints=("f",)),
            [
                "outage.hear_ended(('f',),)",
                "open_streams.of('f',)",
                "reader.event_stream.end()",
                "admission.of('f',)",
                "client_requests.end('f',)",
                "admission.of('f',)",
                "listeners.end('f',)",
            ],
        ),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_each_notification_goes_to_the_part_that_it_concerns(
    notification: Notification, done: list[str]
) -> None:
    assert Told().done(notification) == done


@pytest.mark.parametrize(
    "notification",
    [
        CallCancelled(node="fedcba9876543210", number=7, by="olga"),
        DrainAsked(node="fedcba9876543210", drains=True, by="olga"),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_what_operators_ask_of_another_process_is_left_to_it(notification: Notification) -> None:
    assert Told().done(notification) == []


async def test_a_moment_before_which_no_session_counts_is_kept_and_operators_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Told()
    assert process.done(MinCreatedRaised(min_created_ms=5)) == []
    assert process.node.validity.min_created_ms == 5
    process.done(OperatorActed(by="olga", what="Force-expiring 3 sessions"))
    assert caplog.records[-1].getMessage() == "Force-expiring 3 sessions, by 'olga'."


async def test_only_an_older_connection_for_the_same_stream_is_closed_when_another_process_takes_it() -> None:
    older, same, newer, unclaimed = (writer("s", token) for token in (6, 7, 8, None))
    other = writer("t", 1)
    running = [exchange(stream=each) for each in (None, older, same, newer, unclaimed, other)]
    done = Told(*running).done(StreamClaimed(fingerprint="f", stream="s", token=7))
    assert done == ["admission.of('f',)", "open_streams.nudge('f', 's')"]
    ended = [each.event_stream.end.called for each in (older, same, newer, unclaimed, other)]
    assert ended == [True, False, False, False, False]


@pytest.mark.parametrize("was_ended", [True, False])
async def test_what_waits_for_the_client_of_a_session_that_is_gone_is_cancelled(was_ended: bool) -> None:
    streaming, asking, plain = exchange(stream=Mock()), exchange(waits=1), exchange()
    process = Told(streaming, asking, plain)
    session = await process.harness.open()
    if was_ended:
        await process.store.run(sessions.end(session, principal=None, reason="deleted"))
    await process.inbox.session_missing(session)
    assert process.parts.reader.event_stream.end.called
    assert [each.abort.called for each in (streaming, asking, plain)] == [False, True, False]
    process.parts.client_requests.end.assert_called_once_with(session)
    assert streaming.stream.event_stream.end.called is was_ended, "a call still answers who waits"


async def test_a_cancellation_is_told_to_others_where_nothing_with_that_id_runs_here() -> None:
    process = Told()
    told = process.inbox._cancellations = Mock()
    asked: list[Any] = []

    async def tell(*about: Any) -> bool:
        asked.append(about)
        return len(asked) > 1

    told.tell = tell
    cancel = process.parts.admission.cancel
    for nonsense in ({}, {"requestId": None}, {"requestId": 7.5}):
        assert await process.inbox.cancel(SESSION, nonsense)
    assert not cancel.called
    cancel.return_value = True
    assert await process.inbox.cancel(SESSION, {"requestId": 7})
    cancel.assert_called_once_with(SESSION, 7)
    assert asked == []
    cancel.return_value = False
    assert [await process.inbox.cancel(SESSION, {"requestId": 7}) for _ in range(2)] == [False, True]
    assert asked == [(SESSION, 7)] * 2


class Operated(Process):
    """A process with these requests, which an operator looks after."""

    def __init__(self, *exchanges: Any, modern: Any = ()) -> None:
        super().__init__()
        self.listens_no_more = Mock()
        admission: Any = exchanges
        self.operating = Operating(self.context, admission, modern, self.listens_no_more)


async def test_an_operator_cancels_the_request_with_the_number_and_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_operating, "CANCEL_SECONDS", 0)
    one, other, over = exchange(1), exchange(2), exchange(3, response={})
    process = Operated(one, other, over)
    process.operating.cancel(1, "olga")
    process.operating.cancel(3, "olga")
    process.operating.cancel(4, "olga")
    assert [each.cancel.called for each in (one, other, over)] == [True, False, False]
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == f"'tools/call:add' of {SESSION[:12]} was cancelled by 'olga'."
    async with asyncio.timeout(10):
        while not one.respond.called:
            await asyncio.sleep(0)
    one.respond.assert_called_once_with(one.interrupted.return_value)


async def test_a_request_of_the_modern_era_is_cancelled_too() -> None:
    modern, cancelled = Mock(spec=ModernExchange), []

    async def cancel() -> None:
        cancelled.append(True)

    modern.number, modern.response, modern.cancel = 5, None, cancel
    modern.begun = SimpleNamespace(call="ping", fingerprint=SESSION)
    process = Operated(modern=[modern])
    process.operating.cancel(5, "olga")
    await process.settle()
    assert cancelled == [True]


async def test_a_process_that_is_drained_and_no_longer_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Operated()
    try:
        for drains in (True, True, False, False):
            process.operating.drain(drains=drains, by="olga")
            assert lifecycle.is_draining() is drains
    finally:
        lifecycle.take_on_nothing(False)  # noqa: FBT003 - whether it does
    assert process.listens_no_more.call_count == 2
    told = [
        record.getMessage() for record in caplog.records if record.name.startswith("mcp_sessions.serving")
    ]
    assert told == ["This process is drained, by 'olga'.", "This process is no longer drained, by 'olga'."]
