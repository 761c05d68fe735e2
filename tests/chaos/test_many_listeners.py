"""Thousands of clients of the modern era that listen on one process: what each costs, and that each is told."""

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Final

import pytest
from django.conf import LazySettings

from mcp_sessions import conf
from mcp_sessions.ending import end_session
from mcp_sessions.store.calls import queries
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for
from tests.chaos.harness import Serve, join_from_outside, wait_for_heartbeats
from tests.support.mcp_client import META, MODERN, RawClient
from tests.support.processes import Process, growth_of, wait_until

pytestmark = [pytest.mark.slow]

LISTENERS: Final = 2_000
#: Listeners that are opened first, for what the process sets up once.
FIRST: Final = 50
#: Bytes of resident memory that one may cost.
BOUND: Final = 25 * 1024
#: Seconds for one read.
PATIENCE: Final = 30
#: Seconds in which a listener is gone that an operator has ended.
AT_ONCE: Final = 1.0


@pytest.mark.protocol("M5")
@pytest.mark.parametrize("draining", [False, True], ids=["daphne", "our-daphne"])
def test_thousands_listen_on_one_process_and_hear_what_another_announces(
    serve: Serve, settings: LazySettings, draining: bool
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # before the servers start, which inherit it
    service = serve(2, draining=draining)
    a, b = service.processes
    join_from_outside(settings, service)
    with listeners(a, FIRST) as first, ExitStack() as stack:
        with growth_of(a.pid) as growth:
            streams = [*first, *stack.enter_context(listeners(a, LISTENERS - FIRST))]
            wait_for_heartbeats(service, 2)
        each = growth.peak / (LISTENERS - FIRST)
        print(f"A listener costs {each:,.0f} bytes.")  # noqa: T201 - `pytest -s` shows it
        assert each < BOUND
        assert listed() == LISTENERS

        client = RawClient()
        client.initialize(b.url)
        assert client.value(b.url, "change_tools") == "told"
        for stream in streams:
            assert stream.reads_until(b"list_changed")

        begun = monotonic()
        assert end_session("default", one_of_them())
        wait_until(lambda: listed() == LISTENERS - 1, what="the listener to be gone")
        assert monotonic() - begun < AT_ONCE
        ended = wait_until(lambda: [each for each in streams if each.has_ended()], what="the stream to end")
        assert monotonic() - begun < 2 * AT_ONCE, "to look at all streams takes a while"
        assert [b'"result"' in stream.seen for stream in ended] == [True]


def listed() -> int:
    page = queries.page(Query(kind="listener"), offset=0, limit=1, limits=conf.endpoint("default").limits)
    return sync_store_for("default").run(page).total


def one_of_them() -> str:
    page = queries.page(Query(kind="listener"), offset=7, limit=1, limits=conf.endpoint("default").limits)
    return sync_store_for("default").run(page).sessions[0].fingerprint


class Listening:
    """One connection on which a client listens."""

    def __init__(self, process: Process) -> None:
        self.seen = b""
        self.socket = socket.create_connection(process.address, PATIENCE)
        client = RawClient()
        message = client.request(
            "subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": META}
        )
        body = json.dumps(message).encode()
        headers = client.headers(mcp_protocol_version=MODERN, mcp_method="subscriptions/listen")
        own = {"host": "127.0.0.1", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (headers | own).items()]
        self.socket.sendall("\r\n".join([f"POST {client.path} HTTP/1.1", *lines, "", ""]).encode() + body)

    def reads_until(self, word: bytes) -> bool:
        """Read until something was sent. False if the stream ends before."""
        while word not in self.seen:
            part = self.socket.recv(65536)
            if not part:
                return False
            self.seen += part
        return True

    def has_ended(self) -> bool:
        """Whether the whole response has come."""
        self.socket.settimeout(0)
        try:
            while part := self.socket.recv(65536):
                self.seen += part
        except BlockingIOError:
            return self.seen.endswith(b"0\r\n\r\n")
        return True


@contextmanager
def listeners(process: Process, number: int) -> Iterator[list[Listening]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            listening = Listening(process)
            stack.callback(listening.socket.close)
            assert listening.reads_until(b"acknowledged")
            opened.append(listening)
        yield opened
