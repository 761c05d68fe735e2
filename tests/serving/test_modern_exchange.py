"""One request of the modern era: what its client gets, when it becomes a stream, and what is told of it."""

import asyncio
import json
from asyncio import timeout
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS

from mcp_sessions.serving import modern
from mcp_sessions.serving.modern import ModernExchange
from mcp_sessions.serving.observing import REQUEST_CANCELLED, TELL, Ended
from mcp_sessions.store.calls.reading import CALL_LENGTH
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.asgi import Message
from mcp_sessions.transport.event_stream import EventStream
from tests.support.mcp_client import META

BOUND = 10.0
DONE = {"jsonrpc": "2.0", "id": 7, "result": {}}
REQUEST = jsonrpc.Request(id=7, method="tools/call", params={"name": "x" * CALL_LENGTH})

Handler = Callable[[ModernExchange], Awaitable[dict[str, Any]]]


class Asked:
    """A request, its handler, and its client, which reads unless it `may_read` no more."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        self.noted: list[Ended] = []
        self.told: list[tuple[Ended, str | None]] = []
        self.sent: list[Message] = []
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.waited_for = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.exchange = ModernExchange(
            **{
                "request": REQUEST,
                "scope": {"headers": [(b"x-forwarded-for", b"10.0.0.9")], "client": ("127.0.0.1", 5)},
                "receive": self._receive,
                "send": self._send,
                "kernel": self,
                "principal": "user:1",
                "trusted_proxies": ("127.0.0.1",),
                "meta": META,
                "note": self.noted.append,
                "json_only": False,
                "max_seconds": inf,
                **options,
            }
        )
        self._handler = handler
        self.task = asyncio.create_task(self.exchange.run())

    async def answer_modern(self, request: Any, scope: Any, channel: Any) -> dict[str, Any]:
        assert (request, scope, channel) == (self.exchange.request, self.exchange.scope, self.exchange)
        return await self._handler(channel)

    async def _receive(self) -> Message:
        self.waited_for += 1
        return await self.received.get()

    async def _send(self, message: Message) -> None:
        await self.may_read.wait()
        self.sent.append(message)

    def leave(self) -> None:
        self.received.put_nowait({"type": "http.disconnect"})

    async def ended(self) -> list[dict[str, Any]]:
        """The messages that the client got, once it got all of them."""
        async with timeout(BOUND):
            await asyncio.wait([self.task])
        assert not self.sent or not self.sent[-1].get("more_body", False)
        lines = b"".join(message.get("body", b"") for message in self.sent).splitlines()
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if b'{"jsonrpc"' in line]

    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.noted]


async def until(condition: Callable[[], bool]) -> None:
    async with timeout(BOUND):
        while not condition():
            await asyncio.sleep(0)


async def at_once(_: ModernExchange) -> dict[str, Any]:
    return DONE


async def never(_: ModernExchange) -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def report_and_wait(exchange: ModernExchange) -> dict[str, Any]:
    await exchange.notify("notifications/x", None)
    return await never(exchange)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """A request is watched at once; the timeouts of the watch, which do not come."""
    asked: list[float | None] = []

    def never_over(seconds: float | None) -> asyncio.Timeout:
        asked.append(seconds)
        return timeout(None)

    monkeypatch.setattr(modern, "WATCHED_AFTER", 0)
    monkeypatch.setattr(asyncio, "timeout", never_over)
    return asked


async def test_an_answer_that_comes_at_once_is_json_and_costs_no_task() -> None:
    asked = Asked(at_once)
    assert await asked.ended() == [DONE]
    start, body = asked.sent
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"]) == (200, b"application/json")
    assert int(headers[b"content-length"]) == len(body["body"])
    assert asked.waited_for == 0
    assert asked.exchange._task is None
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    left = [each for each in timers if not each.cancelled() and "_outlast" in repr(each)]
    assert left == [], "nothing comes later"


@pytest.mark.parametrize(
    ("response", "status", "outcome"),
    [
        (DONE, 200, "ok"),
        ({**DONE, "result": {"isError": True}}, 200, "tool error"),
        ({"jsonrpc": "2.0", "id": 7, "error": {"code": INVALID_PARAMS, "message": "no"}}, 400, "error"),
        (
            {"jsonrpc": "2.0", "id": 7, "error": {"code": REQUEST_CANCELLED, "message": "no"}},
            200,
            "cancelled",
        ),
    ],
)
async def test_how_a_request_ended_is_noted_and_told_with_where_it_came_from(
    response: dict[str, Any], status: int, outcome: str
) -> None:
    async def answer(_: ModernExchange) -> dict[str, Any]:
        return response

    asked = Asked(answer)
    asked.exchange.scope[TELL] = lambda *about: asked.told.append(about)
    assert await asked.ended() == [response]
    assert (asked.sent[0]["status"], asked.outcomes()) == (status, [outcome])
    [ended] = asked.noted
    assert asked.told == [(ended, "10.0.0.9")]
    begun = ended.request
    assert begun == asked.exchange.begun
    assert (begun.kind, begun.session, begun.principal) == ("caller", "", "user:1")
    assert (begun.client, begun.client_version) == ("modern", "1")
    assert begun.call == ("tools/call:" + "x" * CALL_LENGTH)[:CALL_LENGTH]
    assert begun.began == asked.exchange.began <= ended.ended


async def test_a_client_that_does_not_say_what_it_is_has_no_name() -> None:
    begun = Asked(at_once, meta={}).exchange.begun
    assert (begun.client, begun.client_version) == ("", "")


async def test_with_its_first_message_the_answer_is_a_stream_that_ends_with_the_response() -> None:
    async def report(exchange: ModernExchange) -> dict[str, Any]:
        await exchange.notify("notifications/a", {"n": 1})
        await exchange.notify("notifications/b", None)
        return DONE

    asked = Asked(report)
    first, second, last = await asked.ended()
    assert (first["method"], first["params"], second["method"]) == (
        "notifications/a",
        {"n": 1},
        "notifications/b",
    )
    assert last == DONE
    assert dict(asked.sent[0]["headers"])[b"content-type"] == b"text/event-stream"
    await asked.exchange.notify("notifications/late", None)
    assert asked.outcomes() == ["ok"]
    assert asked.exchange._sender is not None
    assert asked.exchange._sender.done(), "it has ended when the request has"


async def test_where_only_json_is_answered_what_a_handler_sends_before_is_dropped(
    delays: list[float | None],
) -> None:
    goes_on = asyncio.Event()

    async def report(exchange: ModernExchange) -> dict[str, Any]:
        await exchange.notify("notifications/a", None)
        await goes_on.wait()
        return DONE

    asked = Asked(report, json_only=True)
    await until(lambda: asked.waited_for == 1)
    goes_on.set()
    assert await asked.ended() == [DONE]
    assert len(asked.sent) == 2
    assert delays == [None], "no silence makes it a stream"
    await until(lambda: bool(asked.exchange._watcher and asked.exchange._watcher.cancelled()))


async def test_after_a_long_silence_the_answer_is_a_stream(
    delays: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = asyncio.Event()

    async def think(_: ModernExchange) -> dict[str, Any]:
        await goes_on.wait()
        return DONE

    def over(seconds: float | None) -> Any:
        delays.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(asyncio, "timeout", over)
    asked = Asked(think)
    await until(lambda: len(asked.sent) == 2)
    monkeypatch.undo()
    goes_on.set()
    assert await asked.ended() == [DONE]
    assert delays == [modern.SILENT_SECONDS]
    assert dict(asked.sent[0]["headers"])[b"content-type"] == b"text/event-stream"


@pytest.mark.parametrize("reports", [True, False])
async def test_a_client_that_leaves_cancels_its_handler_and_nothing_else(
    delays: list[float | None], reports: bool
) -> None:
    asked = Asked(report_and_wait if reports else never)
    await until(lambda: asked.waited_for > 0 and bool(asked.sent) == reports)
    asked.received.put_nowait({"type": "http.request"})
    await until(asked.received.empty)
    await asyncio.sleep(0)
    assert not asked.task.done(), "it is still there"
    asked.leave()
    await asyncio.wait([asked.task], timeout=BOUND)
    assert asked.task.done()
    assert not asked.task.cancelled(), "the server did not cancel it"
    assert asked.task.cancelling() == 0
    assert asked.outcomes() == ["interrupted"]
    assert not asked.noted[0].failed


async def test_a_request_that_is_cancelled_while_its_client_leaves_stays_cancelled(
    delays: list[float | None],
) -> None:
    asked = Asked(never)
    await until(lambda: asked.waited_for > 0)
    asked.exchange._leave()
    asked.exchange._leave()
    await asked.exchange.abort()
    assert (asked.sent, asked.noted) == ([], []), "nobody reads an answer"
    asked.task.cancel()
    await asyncio.wait([asked.task], timeout=BOUND)
    assert asked.task.cancelled()
    assert asked.outcomes() == ["interrupted"]


async def test_what_a_handler_raises_is_raised_and_noted() -> None:
    async def fail(_: ModernExchange) -> dict[str, Any]:
        raise KeyError("x")

    asked = Asked(fail)
    assert await asked.ended() == []
    assert isinstance(asked.task.exception(), KeyError)
    assert asked.outcomes() == ["interrupted"]


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(
    ("by", "code", "outcome"),
    [("abort", CONNECTION_CLOSED, "interrupted"), ("cancel", REQUEST_CANCELLED, "cancelled")],
)
async def test_a_request_that_is_ended_is_answered_with_an_error_and_its_handler_cancelled(
    reports: bool, by: str, code: int, outcome: str
) -> None:
    asked = Asked(report_and_wait if reports else never)
    await until(lambda: asked.exchange._task is not None and bool(asked.sent) == reports)
    await getattr(asked.exchange, by)()
    message = (await asked.ended())[-1]
    assert (message["id"], message["error"]["code"]) == (7, code)
    assert asked.task.cancelled()
    assert asked.outcomes() == [outcome]
    before = len(asked.sent)
    await asked.exchange.cancel()
    assert (len(asked.sent), len(asked.noted)) == (before, 1)


async def test_a_response_that_is_being_sent_is_not_replaced_and_its_task_not_cancelled() -> None:
    asked = Asked(at_once)
    asked.may_read.clear()
    await until(lambda: asked.exchange.response is not None)
    asked.exchange._leave()
    await asked.exchange.abort()
    asked.may_read.set()
    assert await asked.ended() == [DONE]
    assert not asked.task.cancelled()
    assert asked.outcomes() == ["ok"]


async def test_of_two_answers_the_first_counts() -> None:
    async def ended_meanwhile(exchange: ModernExchange) -> dict[str, Any]:
        await exchange._respond({"jsonrpc": "2.0", "id": 7, "result": {"first": True}})
        return DONE

    asked = Asked(ended_meanwhile)
    assert [each["result"] for each in await asked.ended()] == [{"first": True}]
    assert len(asked.noted) == 1


async def test_a_stream_has_the_time_that_its_client_may_listen_and_handlers_wait_for_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Any = None
    lasts: list[float] = []
    waits: list[float | None] = []
    run, keep_up = EventStream.run, EventStream.keep_up

    async def running(stream: EventStream, receive: Any, send: Any, **options: Any) -> None:
        lasts.append(options["max_seconds"])
        await run(stream, receive, send, **options)

    async def waiting(stream: EventStream, *seconds: float | None) -> None:
        waits.extend(seconds)
        await keep_up(stream, *seconds)

    monkeypatch.setattr(EventStream, "run", running)
    monkeypatch.setattr(EventStream, "keep_up", waiting)

    async def report(exchange: ModernExchange) -> dict[str, Any]:
        await exchange.notify("notifications/a", None)
        return DONE

    asked = Asked(report, max_seconds=70.0)
    await asked.ended()
    assert (lasts, waits) == ([70.0], [None])


async def test_a_request_that_became_a_stream_before_it_was_watched_is_not_watched(
    delays: list[float | None],
) -> None:
    asked = Asked(report_and_wait)
    await until(lambda: len(asked.sent) > 2)
    asked.exchange._outlast()
    assert asked.exchange._watcher is None
    assert asked.waited_for == 1, "by the stream"
    asked.leave()
    await asked.ended()


async def test_what_watched_a_request_ends_when_it_becomes_a_stream(delays: list[float | None]) -> None:
    goes_on = asyncio.Event()

    async def report(exchange: ModernExchange) -> dict[str, Any]:
        await goes_on.wait()
        return await report_and_wait(exchange)

    asked = Asked(report)
    await until(lambda: asked.waited_for == 1)
    watcher = asked.exchange._watcher
    assert watcher is not None
    goes_on.set()
    await until(lambda: asked.waited_for == 2)
    assert watcher.cancelled()
    asked.leave()
    await asked.ended()
    assert asked.outcomes() == ["interrupted"]
