"""What the guard makes of an application that does not answer as it should."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import pytest

from mcp_sessions.http.guard import Guard
from mcp_sessions.transport.asgi import Message, Receive, Scope, Send

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/mcp"}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
CHUNK: Message = {"type": "http.response.body", "body": b"some", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}

Ending = Callable[[], Awaitable[None]]


class Sent:
    """A server's `send`, remembering."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def header_names(self) -> set[bytes]:
        return {name for name, _ in self.messages[0]["headers"]}


async def never() -> Message:
    raise AssertionError("the guard must not receive")


def application(*messages: Message, ending: Ending) -> Guard:
    """A guarded application that sends these and then ends that way."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await ending()

    return Guard(app)


async def fail() -> None:
    raise RuntimeError("a secret detail")


async def leak_a_cancellation() -> None:
    raise asyncio.CancelledError


async def stop() -> None:
    return


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_good_response_passes_unchanged() -> None:
    sent = Sent()
    await application(START, CHUNK, END, ending=stop)(SCOPE, never, sent)
    assert sent.messages == [START, CHUNK, END]
    assert [id(message) for message in sent.messages] == [id(START), id(CHUNK), id(END)]


async def test_the_scope_and_receive_are_the_servers_own() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive))
        await send(START)
        await send(END)

    await Guard(app)(SCOPE, never, Sent())
    assert seen[0] is SCOPE
    assert seen[1] is never


async def test_an_exception_before_the_response_is_a_500_with_a_json_rpc_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = Sent()
    await application(ending=fail)(SCOPE, never, sent)
    start, body = sent.messages
    assert start["status"] == 500
    assert body["more_body"] is False
    error = json.loads(body["body"])
    assert error == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32603, "message": "Internal server error."},
    }
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "a secret detail" in str(record.exc_info[1])


@pytest.mark.parametrize("ending", [fail, leak_a_cancellation, stop])
async def test_a_response_that_has_started_is_ended_and_nothing_escapes(ending: Ending) -> None:
    sent = Sent()
    await application(START, CHUNK, ending=ending)(SCOPE, never, sent)
    assert sent.messages == [START, CHUNK, END]


@pytest.mark.parametrize("ending", [fail, leak_a_cancellation])
async def test_a_response_that_has_ended_is_left_alone(ending: Ending) -> None:
    sent = Sent()
    await application(START, END, ending=ending)(SCOPE, never, sent)
    assert sent.messages == [START, END]


async def test_no_response_at_all_is_a_500() -> None:
    sent = Sent()
    await application(ending=stop)(SCOPE, never, sent)
    assert sent.messages[0]["status"] == 500


async def test_a_cancellation_that_leaks_before_the_response_is_a_503_to_be_retried() -> None:
    sent = Sent()
    await application(ending=leak_a_cancellation)(SCOPE, never, sent)
    start, body = sent.messages
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert json.loads(body["body"])["error"]["code"] == -32603


async def test_a_cancelled_request_is_answered_and_stays_cancelled() -> None:
    sent = Sent()
    task = asyncio.ensure_future(application(ending=wait_for_ever)(SCOPE, never, sent))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent.messages[0]["status"] == 503
    assert task.cancelled()


async def test_a_cancelled_stream_is_ended_and_stays_cancelled() -> None:
    sent = Sent()
    task = asyncio.ensure_future(application(START, CHUNK, ending=wait_for_ever)(SCOPE, never, sent))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent.messages == [START, CHUNK, END]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_ends_the_process_passes_untouched(kind: type[BaseException]) -> None:
    async def end_the_process() -> None:
        raise kind

    sent = Sent()
    # Driven by hand: a task that ends in one of these ends its event loop.
    coroutine = application(ending=end_the_process)(SCOPE, never, sent)
    with pytest.raises(kind):
        coroutine.send(None)
    assert sent.messages == []


async def test_a_server_that_refuses_the_answer_does_not_make_the_guard_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_message: Message) -> None:
        raise OSError("connection lost")

    await application(ending=fail)(SCOPE, never, broken)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert all(record.exc_info for record in caplog.records)


async def test_no_path_of_the_guard_logs_above_info_for_a_client_that_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        await application(ending=stop)(SCOPE, never, Sent())
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize(("status", "refused"), [(200, []), (399, []), (400, [400]), (503, [503])])
async def test_whoever_counts_is_told_of_each_answer_that_refuses(status: int, refused: list[int]) -> None:
    told: list[int] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "status": status})
        await send(CHUNK)
        await send(END)

    await Guard(app, refused=told.append)(SCOPE, never, Sent())
    assert told == refused


async def test_an_answer_of_the_guard_itself_is_told_too() -> None:
    told: list[int] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """It does not answer."""

    await Guard(app, refused=told.append)(SCOPE, never, Sent())
    assert told == [500]


@pytest.mark.parametrize(
    ("sent", "state"), [((), "not started"), ((START, CHUNK), "started"), ((START, END), "ended")]
)
async def test_the_log_says_how_far_a_response_was(
    caplog: pytest.LogCaptureFixture, sent: tuple[Message, ...], state: str
) -> None:
    await application(*sent, ending=fail)(SCOPE, never, Sent())
    assert caplog.messages == [f"The application raised: POST /mcp, response {state}"]


async def test_a_part_that_does_not_say_that_more_follow_is_the_last() -> None:
    sent, last = Sent(), {"type": "http.response.body", "body": b"all"}
    await application(START, last, ending=stop)(SCOPE, never, sent)
    assert sent.messages == [START, last]
