"""A Redis that is stopped, hangs, or is back: a client never takes it for a session that is gone."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mcp_client import RawClient
from tests.support.processes import Process, daphne, started
from tests.support.redis import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, with its data on disk."""
    server = RedisServer(tmp_path / "redis", keep=True).start()
    yield server
    server.stop()


@pytest.fixture
def process(redis: RedisServer, tmp_path: Path) -> Iterator[Process]:
    one = daphne("A", tmp_path, REDIS_URL=redis.url, MCP_SERVER="tests.served.everything.server")
    with started([one]):
        yield one


def refused_with_503(client: RawClient, leaving: RawClient, url: str) -> None:
    """Every verb says "try again", none says "gone". The DELETE goes on in its process, and succeeds in the end."""
    opening = RawClient()
    with client.get(url) as listening:
        listening.read()
    answers = [
        client.post(url, client.request("ping")),
        client.post(url, {"jsonrpc": "2.0", "method": "notifications/x"}),
        leaving.delete(url),
        listening,
        opening.post(url, opening.initialize_message()),
    ]
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["code"] == -32603


@pytest.mark.protocol("H28")
def test_a_stopped_redis_is_503_and_the_session_is_there_when_it_is_back(
    redis: RedisServer, process: Process
) -> None:
    client, leaving = RawClient(), RawClient()
    for each in (client, leaving):
        each.initialize(process.url)
    client.value(process.url, "remember", name="note", value="kept")
    redis.stop()
    refused_with_503(client, leaving, process.url)
    redis.start()
    recalled = client.call(process.url, "recall", name="note")["result"]["structuredContent"]
    assert recalled == {"value": "kept"}
    assert "Traceback" not in process.log.read_text()


@pytest.mark.protocol("H28")
def test_a_hung_redis_is_503_within_seconds(redis: RedisServer, process: Process) -> None:
    client = RawClient()
    client.initialize(process.url)
    redis.pause()
    before = time.monotonic()
    assert client.post(process.url, client.request("ping")).status_code == 503
    assert time.monotonic() - before < 8
    redis.resume()
    assert client.value(process.url, "add", a=1, b=1) == 2


@pytest.mark.protocol("H23")
def test_a_killed_process_loses_no_session(redis: RedisServer, process: Process) -> None:
    client = RawClient()
    client.initialize(process.url)
    client.value(process.url, "remember", name="note", value="kept")
    process.kill()
    process.start()
    recalled = client.call(process.url, "recall", name="note")["result"]["structuredContent"]
    assert recalled == {"value": "kept"}


def test_a_redis_that_lost_its_data_is_a_miss_and_the_client_starts_anew(
    redis: RedisServer, process: Process
) -> None:
    client = RawClient()
    client.initialize(process.url)
    with redis.client() as connection:
        connection.flushall()
    assert client.post(process.url, client.request("ping")).status_code == 404
    client.initialize(process.url)
    assert client.value(process.url, "add", a=1, b=1) == 2
