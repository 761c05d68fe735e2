"""Channels consumers beside the endpoint: how our daphne ends their WebSockets, and their process."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.support.processes import ENVIRONMENT, Process, free_port, started
from tests.support.sockets import ANSWER_SECONDS, WebSocketClient

#: daphne looks after its applications once a second, and ours does not wait for that.
AT_ONCE = 0.8

pytestmark = pytest.mark.logs_fault("ValueError: raised in a consumer")


@contextmanager
def serving_consumers(directory: Path) -> Iterator[Process]:
    port = free_port()
    listen = ("--drain-timeout", "1", "-b", "127.0.0.1", "-p", str(port))
    process = Process(
        name="websockets",
        command=(sys.executable, "-m", "mcp_sessions.daphne", *listen, "tests.served.websockets:application"),
        environment={**ENVIRONMENT, "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}"},
        port=port,
        log=directory / "websockets.log",
    )
    with started([process]):
        yield process


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving_consumers(tmp_path_factory.mktemp("websockets")) as process:
        yield process


def opened(process: Process, path: str = "/consumer") -> WebSocketClient:
    client = WebSocketClient(process)
    assert client.open(path) == 101
    return client


def test_an_accepted_websocket_carries_messages_both_ways(process: Process) -> None:
    client = opened(process)
    client.say("hello")
    assert client.heard() == (client.TEXT, b"hello")


@pytest.mark.parametrize(("word", "code"), [("end", 1000), ("raise", 1011)])
def test_a_consumer_that_ends_or_raises_closes_its_websocket_at_once(
    process: Process, word: str, code: int
) -> None:
    client = opened(process)
    began = monotonic()
    client.say(word)
    assert client.close_code() == code
    assert monotonic() - began < AT_ONCE
    opened(process)  # the process goes on


def test_a_consumer_that_ends_before_it_accepts_refuses_its_client_at_once(process: Process) -> None:
    began = monotonic()
    assert WebSocketClient(process).open("/silent") == 500
    assert monotonic() - began < AT_ONCE


def test_the_drain_closes_every_websocket_and_the_consumers_hear_of_it(tmp_path: Path) -> None:
    with serving_consumers(tmp_path) as process:
        client, idle, undecided = opened(process), opened(process, "/idle"), WebSocketClient(process)
        undecided.ask("/undecided")
        client.say("hello")
        assert client.heard() == (client.TEXT, b"hello")
        process.send_signal(signal.SIGTERM)
        assert [each.close_code() for each in (client, idle)] == [1001, 1001]
        assert undecided.status() == 503
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert "disconnected with 1001" in process.output()
        assert "Traceback" not in process.output()
        assert "pending" not in process.output()
