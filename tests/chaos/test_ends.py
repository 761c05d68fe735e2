"""The end of a session closes what is open of it, on every process, and nothing of it comes back."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import httpx2
import pytest
from django.conf import LazySettings
from django.core.management import call_command

from tests.chaos.harness import Service, join_from_outside, serving
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, events, messages
from tests.support.processes import wait_until
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.slow]

#: Seconds after the end of a session in which its streams close.
AT_ONCE: Final = 1.0
#: Seconds of the short lifetimes below, and what a heartbeat and a busy machine add.
IDLE: Final = 5
AGE: Final = 10
SLACK: Final = 6
#: What is left of a session that ended.
ENDED: Final = {"ended", "ended-record"}
#: Logs of calls are gone so many seconds after the last sign of life.
KEPT: Final = 4


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes whose logs are kept for a short time."""
    directory = tmp_path_factory.mktemp("ends")
    with serving(directory, redis_server, 2, MCP_STREAM_TTL=str(KEPT)) as service:
        yield service


@pytest.fixture(scope="module")
def short_lived(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes whose sessions live for seconds."""
    directory: Path = tmp_path_factory.mktemp("short")
    lifetimes = {"MCP_IDLE_TTL": str(IDLE), "MCP_MAX_AGE": str(AGE), "MCP_STREAM_TTL": str(KEPT)}
    with serving(directory, redis_server, 2, draining=False, **lifetimes) as service:
        yield service


class Ending:
    """Reads a stream to its end in a thread of its own, and knows when that was."""

    def __init__(self, response: httpx2.Response) -> None:
        self.at = 0.0
        self._messages = messages(response)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for _ in self._messages:
            pass
        self.at = monotonic()

    def within(self, seconds: float) -> float:
        """When it ended. Raises: AssertionError if it does not end in time."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the stream is open after {seconds} s"
        return self.at


@contextmanager
def streams_of(client: RawClient, service: Service, gate: Gate) -> Iterator[list[Ending]]:
    """Every kind of open stream: standalone on both, a call that asks, and one that waits and was resumed elsewhere."""
    a, b = service.urls
    counting = client.calling("count_past", gate=gate.path, number=3)
    with client.stream(a, counting) as response:
        start = next(events(response))
    gate.reached()
    with (
        client.get(b) as older,
        client.get(a) as newer,
        client.stream(b, client.calling("ask", label="?")) as asking,
        client.get(b, last_event_id=start.id) as resumed,
    ):
        yield [Ending(response) for response in (older, newer, asking, resumed)]


def assert_nothing_comes_back(client: RawClient, service: Service, gate: Gate) -> None:
    """The call that still runs sends its last messages and ends; before and after, only the tombstone is left."""
    wait_until(
        lambda: service.redis.left_of(client.fingerprint) <= ENDED,
        what="the logs to expire",
    )
    gate.open()
    assert gate.outcome() in ("passed", "cancelled")
    other = RawClient()
    for url in service.urls:
        assert client.post(url, client.request("ping")).status_code == 404
        other.initialize(url)
        other.value(url, "process")
    assert service.redis.left_of(client.fingerprint) <= ENDED


def reasons_signalled(service: Service, client: RawClient) -> list[str]:
    """The reasons of every `session_ended` that any process sent for a session."""
    said = re.compile(rf"signal: session {client.fingerprint} ended: (\w+)")
    return [reason for process in service.processes for reason in said.findall(process.log.read_text())]


def new_client(service: Service) -> RawClient:
    client = RawClient()
    client.initialize(service.urls[0])
    return client


@pytest.mark.protocol("H26")
def test_delete_closes_every_stream_on_every_process_at_once(service: Service, gate: Gate) -> None:
    client = new_client(service)
    with streams_of(client, service, gate) as streams:
        assert client.delete(service.urls[0]).status_code == 204
        for stream in streams:
            stream.within(AT_ONCE)
    assert_nothing_comes_back(client, service, gate)


@pytest.mark.django_db(transaction=True)
def test_force_expiry_closes_every_stream_on_every_process_at_once(
    service: Service, gate: Gate, settings: LazySettings
) -> None:
    join_from_outside(settings, service)
    client = new_client(service)
    with streams_of(client, service, gate) as streams:
        call_command("mcp_sessions", "expire", client.fingerprint, skip_checks=True)
        for stream in streams:
            stream.within(AT_ONCE)
    assert_nothing_comes_back(client, service, gate)


def test_maximum_age_closes_every_stream_however_busy(short_lived: Service, gate: Gate) -> None:
    begun = monotonic()
    client = new_client(short_lived)
    with streams_of(client, short_lived, gate) as streams:
        ended = [stream.within(AGE + SLACK) for stream in streams]
    assert min(ended) - begun > AGE - 1
    assert max(ended) - min(ended) < AT_ONCE
    wait_until(lambda: reasons_signalled(short_lived, client) != [], what="the signal")
    assert_nothing_comes_back(client, short_lived, gate)
    assert reasons_signalled(short_lived, client) == ["max_age"]


def test_an_open_stream_keeps_its_session_and_without_one_it_idles_out(short_lived: Service) -> None:
    client, other = new_client(short_lived), new_client(short_lived)
    with client.get(short_lived.urls[1]) as listening:
        lines = listening.iter_lines()  # which closes the connection when it is forgotten
        next(lines)
        other.post(short_lived.urls[0], other.request("ping"))
        wait_until(
            lambda: reasons_signalled(short_lived, other) == ["idle"],
            what="a session without a stream to idle out",
        )
        assert "session" in short_lived.redis.left_of(client.fingerprint)
    wait_until(
        lambda: "session" not in short_lived.redis.left_of(client.fingerprint), what="the session to idle out"
    )
    assert client.post(short_lived.urls[0], client.request("ping")).status_code == 404
    wait_until(lambda: not short_lived.redis.left_of(client.fingerprint), what="every key of it to expire")
    assert [reasons_signalled(short_lived, each) for each in (other, client)] == [["idle"], ["max_age"]]
