"""What a stream on which nothing happens costs the process that holds it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Final

import pytest

from tests.chaos.harness import Serve, wait_for_heartbeats
from tests.support.load import sessions
from tests.support.mcp_client import RawClient
from tests.support.processes import Process, growth_of

pytestmark = [pytest.mark.slow]

STREAMS: Final = 500
PER_SESSION: Final = 5
#: Streams that are opened first, for what the process sets up once.
FIRST: Final = 50
#: Bytes of resident memory that one may cost: 17,000 to 19,000 and 24,000 to 25,000 were measured.
BOUND: Final = 30_000
#: Seconds for one read.
PATIENCE: Final = 30


@pytest.mark.parametrize("draining", [False, True], ids=["daphne", "our-daphne"])
def test_an_idle_stream_costs_little_memory(serve: Serve, draining: bool) -> None:
    service = serve(1, draining=draining)
    [process] = service.processes
    clients = sessions((FIRST + STREAMS) // PER_SESSION, process.url)
    owners = (client for client in clients for _ in range(PER_SESSION))
    with open_streams(process, list(islice(owners, FIRST))), ExitStack() as stack:
        with growth_of(process.pid) as growth:
            streams = stack.enter_context(open_streams(process, list(owners)))
            wait_for_heartbeats(service, 2)
        assert len(streams) == STREAMS
        assert_they_are_streams(process, clients[-1], streams[-PER_SESSION:])
    each = growth.peak / STREAMS
    print(f"An idle stream costs {each:,.0f} bytes.")  # noqa: T201 - `pytest -s` shows it
    assert each < BOUND


@contextmanager
def open_streams(process: Process, clients: Sequence[RawClient]) -> Iterator[list[socket.socket]]:
    """A standalone stream for each, all of them open."""
    with ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(process.address, PATIENCE)) for _ in clients]
        for stream, client in zip(streams, clients, strict=True):
            stream.sendall(request(client))
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        yield streams


def request(client: RawClient) -> bytes:
    headers = {**client.headers(accept="text/event-stream", content_type=None), "host": "127.0.0.1"}
    lines = [f"GET {client.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def assert_they_are_streams(process: Process, client: RawClient, streams: Sequence[socket.socket]) -> None:
    """One stream of the session gets the message, and all of them end with the session."""
    client.value(process.url, "tell", number=1, pace=0)
    assert client.delete(process.url).status_code == 204
    everything = b"".join(read_to_the_end(stream) for stream in streams)
    assert everything.count(b"chaos://1") == 1


def read_to_the_end(stream: socket.socket) -> bytes:
    """Up to the last chunk of the response."""
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        received += (part := stream.recv(65536))
        assert part
    return received
