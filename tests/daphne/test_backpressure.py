"""Clients that ask and do not read: what a server keeps for them, under our daphne and under daphne as it is."""

import http.client
import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_sessions.daphne.backpressure import PART_BYTES
from tests.daphne.harness import ask, running
from tests.served.misbehaving import LARGE_BYTES, POURED_BYTES, poured
from tests.support.processes import Process, growth_of, wait_until
from tests.support.sockets import ANSWER_SECONDS, SlowReader

#: What a few requests and Python's own allocator make of resident memory, in bytes.
NOISE = 4 * 1024 * 1024

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("mcp_sessions.daphne", tmp_path_factory.mktemp("ours")) as process:
        yield process


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that cuts off clients which read nothing for a moment."""
    arguments = ("--send-timeout", "0.5")
    with running("mcp_sessions.daphne", tmp_path_factory.mktemp("hasty"), *arguments) as process:
        yield process


def alive(process: Process) -> dict[str, int]:
    """How many of the server's objects there are; see `misbehaving.alive`."""
    with socket.create_connection(process.address, timeout=ANSWER_SECONDS) as asking:
        asking.sendall(b"GET /alive HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: asking.recv(65536), b""))
    counts: dict[str, int] = json.loads(answer[answer.index(b"{") : answer.index(b"}") + 1])
    return counts


def until_sends_wait(process: Process, count: int = 1) -> None:
    wait_until(lambda: alive(process)["Room"] == count, seconds=ANSWER_SECONDS, what="a send that waits")


def until_nothing_is_left(process: Process, before: dict[str, int]) -> None:
    wait_until(lambda: alive(process) == before, seconds=ANSWER_SECONDS, what=f"no more than {before}")


def test_plain_daphne_keeps_whatever_is_sent_to_a_client_that_does_not_read(tmp_path: Path) -> None:
    with running("daphne", tmp_path) as process:
        with growth_of(process.pid) as growth:
            SlowReader(process).send("/pour")
            process.wait_until_it_says("poured")
        assert growth.peak > POURED_BYTES / 2


def test_our_send_waits_for_a_client_that_does_not_read_and_others_are_served(ours: Process) -> None:
    ask(ours, "/pour").read()
    with growth_of(ours.pid) as growth:
        lazy = [SlowReader(ours).send("/pour") for _ in range(3)]
        until_sends_wait(ours, len(lazy))
        assert ask(ours, "/healthz").read() == b"fine"
    assert growth.peak < len(lazy) * 2 * PART_BYTES + NOISE
    assert lazy[0].response().read() == b"".join(poured())


def test_a_client_with_unread_answers_gets_no_further_answer(ours: Process) -> None:
    ask(ours, "/large").read()
    with growth_of(ours.pid) as growth:
        greedy = SlowReader(ours).send("/large").send("/large").send("/large", "Connection: close")
        until_sends_wait(ours)
    assert growth.peak < LARGE_BYTES + NOISE
    received = b"".join(iter(lambda: greedy.socket.recv(1024 * 1024), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(0) == 3 * LARGE_BYTES


def test_a_disconnect_while_send_waits_leaves_nothing_behind(ours: Process) -> None:
    before = alive(ours)
    lazy = [SlowReader(ours).send("/pour") for _ in range(5)]
    until_sends_wait(ours, len(lazy))
    for client in lazy:
        client.socket.close()
    until_nothing_is_left(ours, before)


@pytest.mark.parametrize("path", ["/pour", "/large"])
@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close"])
def test_a_client_that_reads_nothing_in_time_is_cut_off(hasty: Process, path: str, header: str) -> None:
    before = alive(hasty)
    lazy = SlowReader(hasty).send(path, header)
    until_sends_wait(hasty)
    until_nothing_is_left(hasty, before)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        lazy.response().read()


@pytest.mark.parametrize("guarded", [False, True])
def test_a_client_that_does_not_read_does_not_keep_a_process_from_ending(
    tmp_path: Path, *, guarded: bool
) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "0.1", guarded=guarded) as process:
        SlowReader(process).send("/pour")
        until_sends_wait(process)
        process.send_signal(signal.SIGTERM)
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert "shutdown hook" in process.output()
        assert "Traceback" not in process.output()
        assert "pending" not in process.output()
