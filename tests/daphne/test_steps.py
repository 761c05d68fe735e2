"""The steps of a process's end, and the options of the command, in one process with stand-ins for sockets."""

import argparse
import asyncio
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import daphne, lifecycle  # isort: skip  # first: it chooses Twisted's reactor
from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.server import Server as DaphneServer
from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel

from mcp_sessions.daphne import CommandLineInterface, Server, idle, seconds
from mcp_sessions.daphne.starting import begin


def a_server(**connections: Any) -> Server:
    server = Server(None, endpoints=["unused"])
    server.connections = dict(connections)
    return server


def running(future: "asyncio.Future[Any]") -> dict[str, Any]:
    return {"application_instance": future}


# Options


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0.5", 0.5), ("1e3", 1000), (" 7 ", 7)])
def test_a_number_of_seconds_is_taken(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["-0.1", "inf", "nan", "soon", ""])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} is not a number of seconds"):
        seconds(text)


@pytest.mark.parametrize("given", [{}, {"MCP_DRAIN_TIMEOUT": "", "MCP_SEND_TIMEOUT": ""}])
def test_the_options_have_defaults_that_the_environment_changes(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    def chosen(*arguments: str) -> tuple[float, float]:
        options = CommandLineInterface().parser.parse_args([*arguments, "site:application"])
        return options.drain_timeout, options.send_timeout

    for name in ("MCP_DRAIN_TIMEOUT", "MCP_SEND_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert chosen() == (10, 60)
    assert (a_server().drain_seconds, a_server().send_seconds) == (10, 60)
    monkeypatch.setenv("MCP_DRAIN_TIMEOUT", "7")
    monkeypatch.setenv("MCP_SEND_TIMEOUT", "8")
    assert chosen() == (7, 8)
    assert chosen("--drain-timeout", "1", "--send-timeout", "2") == (1, 2)


def test_daphnes_command_gets_our_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DaphneCommandLineInterface, "server_class", DaphneServer)
    monkeypatch.setenv("MCP_DRAIN_TIMEOUT", "7")
    daphne.patch_command()
    made: Any = DaphneCommandLineInterface.server_class
    assert (made.func, made.keywords) == (Server, {"drain_seconds": 7, "send_seconds": 60})
    daphne.patch_command()
    assert DaphneCommandLineInterface.server_class is made
    assert CommandLineInterface().parser.prog == "mcp-sessions-daphne"


# The end


async def test_a_process_ends_step_by_step_and_each_step_has_its_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[Any] = []
    server = Server(None, endpoints=["unused"], drain_seconds=20)

    def step(name: str, result: Any = None) -> Any:
        async def run(*arguments: Any) -> Any:
            steps.append((name, *arguments))
            return result

        return run

    monkeypatch.setattr(daphne, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr(daphne, "_end_hard_after", lambda seconds: steps.append(("hard end after", seconds)))
    monkeypatch.setattr(daphne, "_flush", step("flush"))
    monkeypatch.setattr(lifecycle, "stop_soon", lambda: steps.append("not ready"))
    for phase in ("drain", "abort", "shutdown"):
        monkeypatch.setattr(lifecycle, phase, step(phase))
    monkeypatch.setattr(server, "_close_websockets", lambda: steps.append("close websockets"))
    for name in ("_stop_listening", "_wait_for_applications", "_cancel_applications"):
        monkeypatch.setattr(server, name, step(name))
    monkeypatch.setattr(server, "_wait_for_requests", step("_wait_for_requests", 3))
    await server.kill_all_applications().asFuture(asyncio.get_running_loop())
    assert steps == [
        "not ready",
        ("hard end after", 30),
        ("_stop_listening",),
        "close websockets",
        ("drain", 20),
        ("_wait_for_requests", 1020),
        ("abort", 2),
        ("_wait_for_applications", 1001),
        ("_cancel_applications",),
        ("shutdown", 4),
        ("flush",),
    ]
    assert caplog.messages == ["3 requests did not finish within 20 s."]


def test_the_hard_end_comes_after_all_steps() -> None:
    steps = (daphne.ABORT_SECONDS, daphne.ANSWER_SECONDS, daphne.CANCEL_SECONDS)
    assert sum((*steps, daphne.SHUTDOWN_SECONDS, daphne.FLUSH_SECONDS)) < daphne.HARD_END_SECONDS


async def test_an_end_that_fails_is_logged_and_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = a_server()
    monkeypatch.setattr(server, "_end", mock.AsyncMock(side_effect=ZeroDivisionError("how")))
    await server.kill_all_applications().asFuture(asyncio.get_running_loop())
    assert "The drain failed: " in caplog.text
    assert "ZeroDivisionError: how" in caplog.text


async def test_applications_are_waited_for_until_they_have_ended_or_the_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    slow, quick, done = loop.create_future(), loop.create_future(), loop.create_future()
    done.set_result(None)
    server = a_server(a=running(slow), b=running(quick), c=running(done), d={"half": "sent"})
    assert server._running() == [slow, quick]
    assert await server._wait_for_applications(time.monotonic()) == 2
    loop.call_soon(quick.set_result, None)
    assert await server._wait_for_applications(time.monotonic() + 0.01) == 1
    waiting = asyncio.create_task(server._wait_for_applications(time.monotonic() + 60))
    loop.call_soon(slow.set_result, None)
    assert await waiting == 0
    assert await a_server()._wait_for_applications(0) == 0


@pytest.mark.parametrize(
    ("arriving", "now", "looks"),
    [([False], 1000, 1), ([True, True, False], 1000, 3), ([True, True, False], 1021, 1)],
)
async def test_requests_that_arrive_during_the_drain_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, arriving: list[bool], now: float, looks: int
) -> None:
    steps: list[Any] = []
    server, looking = a_server(), iter(arriving)

    async def sleep(seconds: float) -> None:
        steps.append(seconds)

    async def wait(deadline: float) -> int:
        steps.append(("applications", deadline))
        return len(steps)

    def close_idle(_: Any) -> bool:
        steps.append("idle")
        return next(looking)

    monkeypatch.setattr(server, "_wait_for_applications", wait)
    monkeypatch.setattr(daphne, "close_idle_connections", close_idle)
    monkeypatch.setattr(daphne, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(daphne, "asyncio", SimpleNamespace(sleep=sleep))
    left = await server._wait_for_requests(1020)
    assert left == len(steps)
    pauses = ["idle", *[0.01, "idle"] * (looks - 1)]
    assert steps == [("applications", 1020), 0.1, *pauses, ("applications", 1020)]


async def test_applications_that_are_left_are_cancelled_and_waited_for() -> None:
    ended: list[str] = []

    async def application() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            ended.append("ended")

    tasks = [asyncio.create_task(application()) for _ in range(2)]
    await asyncio.sleep(0)
    await a_server(**{str(n): running(task) for n, task in enumerate(tasks)})._cancel_applications()
    assert ended == ["ended"] * 2
    await a_server()._cancel_applications()


async def test_sockets_that_do_not_take_the_last_bytes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    writers, now, slept = ["socket"] * 3, [1000.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        if len(slept) == 3:
            writers.clear()

    monkeypatch.setattr(daphne, "reactor", SimpleNamespace(getWriters=lambda: writers))
    monkeypatch.setattr(daphne, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(daphne, "asyncio", SimpleNamespace(sleep=sleep))
    await daphne._flush()
    assert slept == [0.01] * 3
    writers.append("socket that is stuck")
    await daphne._flush()
    assert 90 < len(slept) < 110


def test_the_process_is_ended_from_a_thread_that_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timer, stay = mock.Mock(), threading.Event()
    exits: list[Any] = []
    with mock.patch.object(threading, "Timer", return_value=timer) as made:
        daphne._end_hard_after(7)
    made.assert_called_once_with(7, daphne._end_hard)
    assert timer.daemon is True
    timer.start.assert_called_once_with()

    monkeypatch.setattr(daphne, "os", SimpleNamespace(_exit=exits.append))
    monkeypatch.setattr(daphne, "logging", SimpleNamespace(shutdown=lambda: exits.append("logs are written")))
    threads = [
        threading.Thread(target=stay.wait, name=name, daemon=daemon)
        for name, daemon in (("a handler", False), ("a daemon", True))
    ]
    for thread in threads:
        thread.start()
    daphne._end_hard()
    stay.set()
    for thread in threads:
        thread.join()
    assert exits == ["logs are written", 1]
    assert "'a handler'" in caplog.text
    assert "a daemon" not in caplog.text
    assert "MainThread" not in caplog.text


# One connection


def a_request(**values: Any) -> Any:
    channel = mock.Mock(spec=HTTPChannel, persistent=True)
    return SimpleNamespace(
        **{"channel": channel, "startedWriting": False, "responseHeaders": mock.Mock(), **values}
    )


@pytest.mark.parametrize("started", [False, True])
def test_a_connection_closes_after_its_response_and_says_so_if_it_still_can(*, started: bool) -> None:
    request = a_request(startedWriting=started)
    daphne._close_after_response(request)
    assert request.channel.persistent is False
    told = [mock.call(b"connection", [b"close"])]
    assert request.responseHeaders.setRawHeaders.call_args_list == ([] if started else told)


@pytest.mark.parametrize("channel", [None, "another protocol"])
def test_a_connection_of_another_protocol_is_left_alone(channel: Any) -> None:
    request = a_request(channel=channel)
    daphne._close_after_response(request)
    del request.channel
    daphne._close_after_response(request)
    assert not request.responseHeaders.setRawHeaders.called


def a_channel(*, requests: bool = False) -> Any:
    channel = HTTPChannel()  # type: ignore[no-untyped-call]  # Twisted has few type hints
    channel.makeConnection(StringTransport())  # type: ignore[no-untyped-call]  # likewise
    channel.loseConnection = mock.Mock()  # type: ignore[method-assign]
    channel.requests = ["a request"] if requests else []
    return channel


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("requests", "waits", "arriving", "closed"),
    [
        (True, b"", False, False),
        (False, b"G", True, False),
        (False, b"", False, True),
        (False, None, False, True),
    ],
)
def test_connections_without_a_request_are_closed_unless_one_has_begun_to_arrive(
    *, encrypted: bool, requests: bool, waits: bytes | None, arriving: bool, closed: bool
) -> None:
    channel = a_channel(requests=requests)
    http = SimpleNamespace(_channel=channel)
    socket = mock.Mock()
    socket.recv.side_effect = [OSError] if waits is None else [waits]
    transport = SimpleNamespace(
        protocol=SimpleNamespace(wrappedProtocol=http) if encrypted else http, socket=socket
    )
    others = [SimpleNamespace(), SimpleNamespace(protocol=SimpleNamespace(_channel="not chosen yet"))]
    reactor = SimpleNamespace(getReaders=lambda: [*others, transport])
    assert idle.close_idle_connections(reactor) is arriving
    assert channel.loseConnection.called is closed


# The start


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_process_whose_settings_are_wrong_stops_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, *, wrong: bool
) -> None:
    from django.core.exceptions import ImproperlyConfigured

    starting = mock.AsyncMock(side_effect=ImproperlyConfigured if wrong else None)
    monkeypatch.setattr(lifecycle, "start", starting)
    reactor, stop = mock.Mock(), mock.Mock()
    await begin(reactor, stop)
    assert starting.await_count == 1
    assert stop.called is wrong
    triggers = [call.args[:2] for call in reactor.addSystemEventTrigger.call_args_list]
    assert triggers == [("after", "shutdown")] * wrong


@pytest.mark.parametrize(("verbosity", "silent"), [(0, True), (1, True), (2, False)])
def test_the_start_hooks_run_once_when_the_first_port_listens(
    monkeypatch: pytest.MonkeyPatch, verbosity: int, *, silent: bool
) -> None:
    reactor = mock.Mock()
    monkeypatch.setattr(daphne, "reactor", reactor)
    server = Server(None, endpoints=["one", "two"], verbosity=verbosity)
    server.http_factory = SimpleNamespace(log=logging.info)
    server.listening_addresses = []
    for port in ("one", "two"):
        server.listen_success(SimpleNamespace(getHost=lambda: None, name=port))
        assert reactor.callWhenRunning.call_count == 1
    with mock.patch.object(daphne, "begin") as begun:
        reactor.callWhenRunning.call_args.args[0]()
    begun.assert_called_once_with(reactor, server.stop)
    assert server._starting == [begun.return_value]
    assert [port.name for port in server._ports] == ["one", "two"]
    assert (server.http_factory.log is daphne._write_no_line) is silent
