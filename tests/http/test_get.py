"""A GET of the handshake era: which stream it gets, what refuses it, and what is left of it when it is over."""

from typing import Any
from unittest.mock import AsyncMock, Mock, call

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import endpoint as http_endpoint
from mcp_sessions.http.lookup import Counts
from mcp_sessions.store.calls import sessions
from mcp_sessions.transport import rejections
from mcp_sessions.transport.event_ids import STANDALONE, EventId
from tests.http.asked import SESSION, Asked, session

RESUMED = EventId.of(SESSION, "0123456789abcdef", 7)


class Listening(Asked):
    """A GET, and the streams that were sent: each with the name of its client and whether it still counted."""

    def __init__(self, patch: pytest.MonkeyPatch, *, resumes: str | None = None, **more: Any) -> None:
        headers = {b"accept": b"text/event-stream"}
        if resumes is not None:
            headers[b"last-event-id"] = resumes.encode("latin-1")
        super().__init__(patch, headers=headers, **more)
        self.streamed: list[Any] = []
        self.reader = self.runtime.open_streams.take_over.return_value = Mock()

        async def send(_: Any, stream: Any, client: str) -> None:
            admission, stop = self.runtime.admission, self.runtime.open_streams.stop
            self.streamed.append((stream, client, admission.close_stream.called or stop.called))
            if stream == "broken":
                raise ConnectionResetError

        patch.setattr(http_endpoint._HandshakeRequest, "_send_stream", send)

    def is_over(self) -> bool:
        """Whether the stream was counted, and is counted no longer."""
        runtime = self.runtime
        return bool(runtime.listen.call_count == runtime.admission.close_stream.call_count == 1)


@pytest.mark.parametrize(
    ("resumes", "stream", "after"),
    [(None, STANDALONE, None), (str(RESUMED), RESUMED.stream, RESUMED.position)],
)
async def test_it_gets_the_stream_that_it_names_or_the_standalone_one(
    monkeypatch: pytest.MonkeyPatch, resumes: str | None, stream: str, after: int | None
) -> None:
    asked = Listening(monkeypatch, resumes=resumes)
    await asked.request.get()
    runtime, reader = asked.runtime, asked.reader
    assert asked.touched == [{"header": b"id", "call": "GET", "counts": None}]
    runtime.deadlines.watch.assert_called_once_with(asked.found)
    runtime.open_streams.take_over.assert_awaited_once_with(
        asked.found, stream, after=after, scope=asked.scope
    )
    runtime.deliver.assert_called_once_with(reader)
    assert asked.streamed == [(reader.event_stream, "inspector", False)]
    runtime.open_streams.stop.assert_called_once_with(reader, runtime.deliver.return_value)
    assert asked.is_over()


async def test_a_stream_that_breaks_is_over_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Listening(monkeypatch)
    asked.reader.event_stream = "broken"
    with pytest.raises(ConnectionResetError):
        await asked.request.get()
    assert asked.runtime.open_streams.stop.called
    assert asked.is_over()


async def test_it_counts_as_a_request_and_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Listening(monkeypatch, rate_limits={"streams per principal": "1/s"})
    await asked.request.get()
    assert asked.touched[0]["counts"] == Counts(("requests", "streams"), "127.0.0.1")


@pytest.mark.parametrize("accept", [b"application/json", None])
async def test_who_takes_no_stream_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, accept: bytes | None
) -> None:
    asked = Listening(monkeypatch)
    del asked.request.headers[b"accept"]
    if accept is not None:
        asked.request.headers[b"accept"] = accept
    await asked.request.get()
    assert asked.was_refused_with(rejections.NOT_ACCEPTABLE_STREAM)
    assert not asked.runtime.listen.called


async def test_where_there_are_too_many_streams_no_session_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Listening(monkeypatch)
    asked.runtime.listen.return_value = rejections.TOO_MANY_STREAMS
    await asked.request.get()
    assert asked.was_refused_with(rejections.TOO_MANY_STREAMS)
    assert (asked.touched, asked.runtime.admission.close_stream.called) == ([], False)


@pytest.mark.parametrize("found", [rejections.SESSION_NOT_FOUND, StoreUnavailable("away")])
async def test_whose_session_is_not_found_is_refused_and_counted_no_longer(
    monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    asked = Listening(monkeypatch, found=found)
    if isinstance(found, Exception):
        with pytest.raises(StoreUnavailable):
            await asked.request.get()
    else:
        await asked.request.get()
        assert asked.was_refused_with(found)
    assert asked.is_over()
    assert not asked.runtime.open_streams.take_over.called


@pytest.mark.parametrize("resumes", [None, str(RESUMED)])
async def test_without_the_store_it_is_silent_and_nothing_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, resumes: str | None
) -> None:
    asked = Listening(monkeypatch, resumes=resumes, found=session(is_stored=False))
    await asked.request.get()
    if resumes is None:
        silent = asked.runtime.listen_without_store.return_value
        assert asked.streamed == [(silent, "inspector", False)]
    else:
        assert asked.was_refused_with(rejections.STORE_UNAVAILABLE)
        assert not asked.runtime.listen_without_store.called
    assert asked.is_over()
    assert not asked.runtime.deadlines.watch.called


@pytest.mark.parametrize(
    ("resumes", "taken", "exists", "status"),
    [
        ("nonsense", True, True, 400),
        (str(EventId.of("e" * 64, "0123456789abcdef", 7)), True, True, 400),
        (str(RESUMED), False, True, 400),
        (str(RESUMED), False, False, 404),
        (None, False, False, 404),
    ],
)
async def test_what_names_no_event_is_told_from_a_session_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, resumes: str | None, taken: bool, exists: bool, status: int
) -> None:
    asked = Listening(monkeypatch, resumes=resumes)
    runtime = asked.runtime
    runtime.context.store.run.return_value = session() if exists else None
    if not taken:
        runtime.open_streams.take_over.return_value = None
    await asked.request.get()
    assert runtime.open_streams.take_over.called is not taken
    expected = rejections.BAD_EVENT_ID if status == 400 else rejections.SESSION_NOT_FOUND
    assert asked.was_refused_with(expected)
    assert runtime.context.store.run.call_args_list == [call(sessions.get(SESSION))]
    assert asked.is_over()
    assert not runtime.deliver.called


async def test_a_delete_ends_the_session_of_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    delete = AsyncMock()
    monkeypatch.setattr(http_endpoint, "delete", delete)
    asked = Asked(monkeypatch)
    await asked.request.delete()
    delete.assert_awaited_once_with(asked.runtime, b"id", "user:1", asked.request.send)
