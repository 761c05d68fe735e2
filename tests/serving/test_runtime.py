"""What serves an endpoint in one event loop: how it starts, what it closes when, and in which order it stops."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from math import inf
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock, call

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import lifecycle
from mcp_sessions.authentication import blocking
from mcp_sessions.serving import runtime as serving_runtime
from mcp_sessions.serving.runtime import Runtime, runtime_for, runtimes_of
from mcp_sessions.subscriptions import _publishers
from mcp_sessions.transport import jsonrpc, rejections
from tests.support.asgi import endpoint

BOUND = 10.0
PING = jsonrpc.Request(id=7, method="ping", params=None)
DONE = {"jsonrpc": "2.0", "id": 7, "result": {}}


@pytest.fixture
def runtime() -> Iterator[Any]:
    with endpoint():
        yield Runtime("default")


@pytest.fixture
def steps(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The parts that start and stop, and in which order they did."""
    steps = Mock()
    for name in ("server.start", "server.stop", "node.start", "node.stop", "store.aclose"):
        setattr(steps, name.replace(".", "_"), AsyncMock())
        part, _, method = name.partition(".")
        owner = runtime.server if part == "server" else getattr(runtime.context, part)
        monkeypatch.setattr(owner, method, getattr(steps, name.replace(".", "_")))
    for name, owner, method in (
        ("tell", runtime.observing, "tell"),
        ("write", runtime.counts, "write"),
        ("watch", runtime.observing, "run"),
    ):
        setattr(steps, name, AsyncMock())
        monkeypatch.setattr(owner, method, getattr(steps, name))
    monkeypatch.setattr(runtime._past, "hurry", steps.hurry)
    return steps


def exchange(*, response: Any = None, stays: bool = False, stream: Any = None) -> Any:
    """A request of a session whose handler ends when it is cancelled, unless it `stays`."""
    made = Mock(response=response, stream=stream, task=None)

    async def run() -> None:
        try:
            await made.ends.wait()
        except asyncio.CancelledError:
            if stays:
                await made.ends.wait()
            raise

    made.ends, made.session = asyncio.Event(), SimpleNamespace(fingerprint="f" * 64)
    made.run = run
    made.abort = Mock(side_effect=lambda: made.task and made.task.cancel())
    made.interrupted.return_value = {"error": "interrupted"}
    return made


def modern(method: str = "ping", response: Any = None) -> Any:
    """A request of the modern era."""
    return Mock(request=SimpleNamespace(method=method), response=response, abort=AsyncMock())


async def test_it_starts_once_however_many_ask_and_again_if_that_failed(runtime: Any, steps: Mock) -> None:
    steps.server_start.side_effect = RuntimeError("no lifespan")
    with pytest.raises(RuntimeError):
        await runtime.start()
    assert not runtime.started
    steps.node_start.assert_not_awaited()
    steps.server_start.side_effect = None
    steps.reset_mock()
    await asyncio.gather(runtime.start(), runtime.start())
    await asyncio.sleep(0)
    assert runtime.started
    assert steps.mock_calls == [call.server_start(), call.node_start(), call.watch()]
    publishers = _publishers[asyncio.get_running_loop()]
    assert publishers["default"] == runtime.context.node.broadcast
    await runtime.stop()
    assert "default" not in publishers


async def test_it_knows_what_was_blocked_while_it_started(
    runtime: Any, steps: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request has read the blocks; until its node has started, nobody tells it that they change."""
    monkeypatch.setattr(blocking, "_active", lambda _: [])
    runtime.blocks = blocking.Blocks("default")
    await runtime.blocks.load()

    async def take_long() -> None:
        monkeypatch.setattr(blocking, "_active", lambda _: [("client", "rude", inf)])

    steps.server_start.side_effect = take_long
    await runtime.start()
    await asyncio.wait(runtime._tasks, timeout=BOUND)
    assert runtime.blocks.refuse(blocking.Asker(client="rude"))
    await runtime.stop()


async def test_an_operator_drains_every_endpoint_of_the_process(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose store is away, so that its node cannot be asked."""
    runtimes = {"default": Mock(), "shop": Mock()}
    monkeypatch.setitem(serving_runtime._runtimes, asyncio.get_running_loop(), runtimes)
    try:
        runtime.operating.drain(drains=True, by="olga")
    finally:
        lifecycle.take_on_nothing(drains=False)
    for each in runtimes.values():
        each.listen_no_more.assert_called_once_with()


async def test_it_stops_in_an_order_in_which_nothing_is_lost(runtime: Any, steps: Mock) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def watch() -> None:
        await asyncio.Event().wait()

    steps.watch.side_effect = watch
    await runtime.start()
    watching, task, left = runtime._watching, runtime.spawn(work()), exchange()
    runtime.admission.run(left)
    await asyncio.sleep(0)
    steps.reset_mock()
    steps.tell.side_effect = lambda: watching and steps.watched(watching.cancelling())
    steps.node_stop.side_effect = lambda: steps.cancelled(task.cancelling(), left.abort.called)
    await runtime.stop()
    assert [each for each in steps.mock_calls if each[0]] == [
        call.hurry(),
        call.tell(),
        call.watched(1),
        call.write(),
        call.node_stop(),
        call.cancelled(0, True),  # noqa: FBT003 - whether it was aborted
        call.server_stop(),
        call.store_aclose(),
    ]
    await asyncio.wait([task])
    assert ended.is_set()
    assert not runtime._tasks


async def test_it_stops_before_it_has_started(runtime: Any, steps: Mock) -> None:
    await runtime.stop()
    steps.store_aclose.assert_awaited_once_with()


async def test_what_is_spawned_is_held_until_it_is_over(runtime: Any) -> None:
    goes_on = asyncio.Event()
    task = runtime.spawn(goes_on.wait())
    assert runtime._tasks == {task}
    goes_on.set()
    assert await task is True
    await asyncio.sleep(0)
    assert not runtime._tasks


async def test_what_runs_is_what_has_no_answer_yet_in_both_eras(runtime: Any) -> None:
    one, over = exchange(), exchange(response=DONE)
    for each in (one, over):
        runtime.admission.run(each)
    new, answered = modern(), modern(response=DONE)
    runtime.modern.update((new, answered))
    assert list(runtime.running()) == [one.begun, new.begun]
    for each in (one, over):
        each.ends.set()
    await asyncio.sleep(0)


async def test_streams_that_listen_are_counted_and_refused_where_they_would_end_at_once(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not runtime.ends_listening
    assert runtime.listen() is None
    assert runtime.admission.streams == 1
    with monkeypatch.context() as full:
        full.setattr(runtime.admission, "open_stream", lambda: False)
        assert runtime.listen() is rejections.TOO_MANY_STREAMS
    for told in ("stopped", "drained by an operator"):
        runtime.draining = told == "stopped"
        lifecycle.take_on_nothing(drains=told != "stopped")
        try:
            assert runtime.ends_listening
            assert runtime.listen() is rejections.STOPPED
            assert not runtime.listen_without_store().open
        finally:
            lifecycle.take_on_nothing(drains=False)
    runtime.draining = False
    assert runtime.listen_without_store().open
    assert runtime.admission.streams == 1


async def test_a_reader_is_delivered_and_closed_at_once_only_where_listening_ends(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.open_streams, "start", lambda reader: f"delivers {reader.name}")
    reader = Mock()
    reader.name = "s"
    assert runtime.deliver(reader) == "delivers s"
    assert not reader.disconnect.called
    runtime.draining = True
    runtime.deliver(reader)
    reader.disconnect.assert_called_once_with()


async def test_a_drain_closes_what_never_ends_by_itself_and_waits_for_all_that_runs(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Mock()
    readers = [Mock(), Mock()]
    monkeypatch.setattr(runtime, "listeners", parts.listeners)
    monkeypatch.setattr(runtime, "outage", parts.outage)
    monkeypatch.setattr(runtime, "open_streams", readers)
    listens, calls = modern("subscriptions/listen"), modern()
    runtime.modern.update((listens, calls))
    first, second = exchange(), exchange()
    runtime.admission.run(first)
    draining = asyncio.create_task(runtime.drain())
    await asyncio.sleep(0)
    assert runtime.draining
    assert parts.mock_calls == [call.listeners.close(), call.outage.close_streams()]
    assert all(each.disconnect.called for each in readers)
    await asyncio.sleep(0)
    assert (listens.abort.await_count, calls.abort.await_count) == (1, 0)
    runtime.admission.run(second)
    first.ends.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not draining.done(), "what came meanwhile runs, too"
    second.ends.set()
    await asyncio.wait_for(draining, BOUND)
    assert not first.abort.called


async def test_an_abort_answers_all_that_is_left_also_what_does_not_end(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving_runtime, "CANCEL_SECONDS", 0)
    await runtime.abort()
    assert caplog.messages == []
    written, client_reads = asyncio.Event(), asyncio.Event()
    plain, stays = exchange(stream=Mock(written=written.wait)), exchange(stays=True)
    for each in (plain, stays):
        runtime.admission.run(each)
    new = modern()
    new.abort = client_reads.wait
    runtime.modern.add(new)
    handling = asyncio.Event()
    runtime.admission.run_notification("f" * 64, handling.wait())
    [notified] = runtime.admission.notifications
    await asyncio.sleep(0)
    aborting = asyncio.create_task(runtime.abort())
    async with asyncio.timeout(BOUND):
        while not stays.respond.called:
            await asyncio.sleep(0)
    assert all(call({"error": "interrupted"}) in each.respond.call_args_list for each in (plain, stays))
    assert notified.cancelling() == 1
    for event in (written, client_reads):
        for _ in range(3):
            await asyncio.sleep(0)
        assert not aborting.done(), "the answers are on their way"
        event.set()
    await asyncio.wait_for(aborting, BOUND)
    [told] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert told.getMessage() == "Calls that outlasted the drain and were ended: 2."
    stays.ends.set()
    await asyncio.sleep(0)


async def test_cancelled_handlers_have_a_moment_to_end(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []

    async def wait(tasks: Any, *, timeout: float) -> None:  # noqa: ASYNC109 - that of asyncio
        waits.append((list(tasks), timeout))

    monkeypatch.setattr(asyncio, "wait", wait)
    await runtime._cancel_handlers()
    assert waits == []
    running = exchange()
    runtime.admission.run(running)
    await runtime._cancel_handlers()
    assert waits == [([running.task], 1.0)]


@pytest.mark.parametrize("ends", ["answered", "cancelled"])
async def test_a_request_that_runs_again_may_not_stream_and_keeps_its_session(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    made: list[Any] = []

    async def settled(_: Any) -> None:
        await made[0].ends.wait()

    def new_exchange(**options: Any) -> Any:
        made.append(exchange())
        made[0].options, made[0].settled = options, Mock(side_effect=settled)
        return made[0]

    monkeypatch.setattr(runtime, "new_exchange", new_exchange)
    session: Any = SimpleNamespace(fingerprint="f" * 64)
    running = asyncio.create_task(runtime._run_again(PING, {"type": "http"}, session))
    await asyncio.sleep(0)
    [again] = made
    assert again.options == {
        "request": PING,
        "scope": {"type": "http"},
        "session": session,
        "may_stream": False,
    }
    assert again.keeps_session is True
    assert runtime.admission.of(again.session.fingerprint) == [again]
    await asyncio.sleep(0)
    again.settled.assert_called_once_with(None)
    assert not again.abort.called
    if ends == "answered":
        again.response = DONE
        again.ends.set()
        assert await running == DONE
    else:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
    again.abort.assert_called_once_with()


@pytest.fixture
async def started(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The runtimes that were made, by alias, without what is in them."""
    made: dict[str, Any] = {}

    def make(alias: str) -> Any:
        made[alias] = each = Mock(
            started=False, start=AsyncMock(), drain=AsyncMock(), abort=AsyncMock(), stop=AsyncMock()
        )
        each.start.side_effect = lambda: setattr(each, "started", True)
        return each

    monkeypatch.setattr(serving_runtime, "Runtime", make)
    monkeypatch.setattr(serving_runtime, "served", {"b", "a"})
    yield made
    serving_runtime._runtimes.pop(asyncio.get_running_loop(), None)


async def test_each_endpoint_has_one_runtime_in_an_event_loop_that_starts_drains_aborts_and_stops(
    started: dict[str, Any],
) -> None:
    for nothing in (serving_runtime.drain_runtimes, serving_runtime.abort_runtimes):
        await nothing()
    await serving_runtime.stop_runtimes()
    await serving_runtime.start_runtimes()
    assert list(started) == ["a", "b"]
    one, other = started.values()
    found: Any = await runtime_for("a")
    assert found is one
    one.start.assert_awaited_once_with()
    assert runtimes_of("a") == [one]
    assert runtimes_of("c") == []
    elsewhere = asyncio.new_event_loop()
    try:
        serving_runtime._runtimes[elsewhere] = {"b": "another"}  # type: ignore[dict-item]
        assert set(runtimes_of("b")) == {other, "another"}
        assert runtimes_of("a") == [one]
    finally:
        del serving_runtime._runtimes[elsewhere]
        elsewhere.close()
    for phase in ("drain", "abort", "stop"):
        await getattr(serving_runtime, f"{phase}_runtimes")()
        for each in (one, other):
            getattr(each, phase).assert_awaited_once_with()
    assert runtimes_of("a") == []


@pytest.mark.parametrize("why", [ImportError("no module"), ZeroDivisionError("by zero")])
def test_a_server_that_cannot_be_loaded_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, why: Exception
) -> None:
    def load(_: Any) -> Any:
        raise why

    monkeypatch.setattr(serving_runtime, "load_server", load)
    with endpoint(SERVER="shop.server"), pytest.raises(ImproperlyConfigured) as raised:
        Runtime("default")
    assert str(raised.value).startswith(
        "MCP_SESSIONS['default']['SERVER']: 'shop.server' cannot be loaded: "
        f"{type(why).__name__}: {why} (http"
    )
    assert raised.value.__cause__ is why


def test_what_is_over_before_the_next_heartbeat_but_one_ends_in_time() -> None:
    with endpoint(IDLE_TTL=6, STREAM_TTL=600):
        assert Runtime("default").deadlines.horizon_ms == 4_000


@pytest.mark.parametrize(("response", "json_only"), [("json", True), ("auto", False), ("sse", False)])
def test_the_server_is_hosted_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, response: str, json_only: bool
) -> None:
    made = Mock(side_effect=KeyError)
    monkeypatch.setattr(serving_runtime, "HostedServer", made)
    with endpoint(RESPONSE=response, MAX_BODY=5), pytest.raises(KeyError):
        Runtime("default")
    assert made.call_args.kwargs == {"json_only": json_only, "max_body": 5}
