"""Bounds of streams: how many there are, how long one connection carries one, and what their logs keep."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx2
import pytest
from django.conf import LazySettings

from tests.support.gates import Gate
from tests.support.mcp_client import META, MODERN, RawClient, connected, events, messages
from tests.support.processes import serving_everything, wait_until
from tests.support.redis import RedisServer
from tests.support.totals import limited, totals_of

pytestmark = pytest.mark.slow

PER_SESSION = 2
IN_ALL = 4
EVENTS = 5


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its name is the namespace."""
    return tmp_path_factory.mktemp("stream-caps")


@pytest.fixture(scope="module")
def url(redis_server: RedisServer, directory: Path) -> Iterator[str]:
    """A process with small caps."""
    caps = {
        "MCP_MAX_STREAMS": str(IN_ALL),
        "MCP_MAX_STREAMS_PER_SESSION": str(PER_SESSION),
        "MCP_STREAM_MAX_EVENTS": str(EVENTS),
    }
    with serving_everything(directory, redis_server.url, count=1, **caps) as (process,):
        yield process.url


def counting(client: RawClient, number: int, gate: Gate) -> dict[str, object]:
    """A call that reports half of its numbers, and the rest behind a gate."""
    return client.calling("count_to", number=number, gate=gate.path)


def let_through(gate: Gate) -> None:
    gate.reached()
    gate.open()


def test_a_session_with_too_many_streams_loses_its_oldest(
    url: str, directory: Path, redis_server: RedisServer, settings: LazySettings
) -> None:
    client = connected(url)
    with client.get(url) as first, client.get(url) as second, client.get(url) as third:
        assert list(messages(first)) == []
        client.value(url, "announce")
        assert next(messages(third))["method"] == "notifications/resources/list_changed"
        assert client.delete(url).status_code == 204
        assert list(messages(second)) == []
    totals = totals_of(directory.name, redis_server, settings)
    wait_until(lambda: limited(totals()).get("MAX_STREAMS_PER_SESSION") == 1, what="the cap to be counted")


def test_at_the_cap_of_the_process_a_stream_is_refused_and_calls_go_on(url: str) -> None:
    clients = [connected(url) for _ in range(IN_ALL)]
    one_more = connected(url)
    with ExitStack() as stack:
        streams = [stack.enter_context(client.get(url)) for client in clients]
        with one_more.get(url) as refused:
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["content-type"].startswith("application/json")
        assert one_more.value(url, "add", a=1, b=1) == 2
        assert clients[0].delete(url).status_code == 204
        assert list(messages(streams[0])) == []
        with one_more.get(url) as admitted:
            assert admitted.status_code == 200


def test_where_no_stream_may_be_opened_a_call_is_answered_without_one(url: str, gate: Gate) -> None:
    clients = [connected(url) for _ in range(IN_ALL)]
    one_more = connected(url)
    with ExitStack() as stack:
        heard = [messages(stack.enter_context(client.get(url))) for client in clients]
        assert one_more.call(url, "ask_age", name="Ann")["error"]["message"]
        threading.Thread(target=let_through, args=(gate,)).start()
        answer = one_more.post(url, counting(one_more, 4, gate))
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json()["result"]["structuredContent"] == {"result": 4}
        modern = one_more.request("tools/list", {"_meta": META})
        refused = RawClient().post(url, modern, mcp_protocol_version=MODERN, mcp_method="tools/list")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        for client in clients:
            assert client.delete(url).status_code == 204
        for each in heard:
            assert list(each) == []


def test_streams_that_are_opened_at_the_same_moment_do_not_exceed_the_cap(
    url: str, directory: Path, redis_server: RedisServer, settings: LazySettings
) -> None:
    clients = [connected(url) for _ in range(6 * IN_ALL)]

    async def statuses() -> list[int]:
        async with httpx2.AsyncClient(timeout=30) as http, AsyncExitStack() as stack:

            async def opened(client: RawClient) -> int:
                headers = client.headers(accept="text/event-stream", content_type=None)
                response = http.stream("GET", url + client.path, headers=headers)
                return (await stack.enter_async_context(response)).status_code

            return await asyncio.gather(*[opened(client) for client in clients])

    found = asyncio.run(statuses())
    assert (found.count(200), found.count(503)) == (IN_ALL, len(clients) - IN_ALL)
    totals = totals_of(directory.name, redis_server, settings)
    wait_until(
        lambda: limited(totals()).get("MAX_STREAMS", 0) >= found.count(503), what="the cap to be counted"
    )


@pytest.mark.protocol("H20")
def test_a_log_keeps_the_newest_messages_and_never_drops_the_response(url: str, gate: Gate) -> None:
    client = connected(url)
    with client.stream(url, counting(client, 40, gate)) as response:
        start = next(events(response))
    gate.reached()
    gate.open()
    assert gate.outcome() == "passed"
    with client.get(url, last_event_id=start.id) as resumed:
        seen = list(messages(resumed))
    assert seen[-1]["result"]["structuredContent"] == {"result": 40}
    kept = [message["params"]["progress"] for message in seen[:-1]]
    assert kept[-EVENTS + 1 :] == [36, 37, 38, 39]
    assert kept == sorted(set(kept))


@pytest.mark.protocol("H9", "H20")
def test_a_connection_that_carried_a_stream_for_long_enough_is_closed_and_the_client_comes_back(
    redis_server: RedisServer, tmp_path: Path, gate: Gate
) -> None:
    with serving_everything(tmp_path, redis_server.url, count=1, MCP_STREAM_MAX_AGE="1") as (process,):
        client = connected(process.url)
        with client.stream(process.url, counting(client, 4, gate)) as response:
            text = response.read().decode()
        assert text.rstrip().splitlines()[-1].startswith("retry: ")
        last = list(events(response))[-1]
        gate.reached()
        with client.get(process.url) as listening:
            assert "retry: " in listening.read().decode()
        gate.open()
        assert gate.outcome() == "passed"
        with client.get(process.url, last_event_id=last.id) as resumed:
            seen = list(messages(resumed))
    assert [message["params"]["progress"] for message in seen[:-1]] == [2, 3]
    assert seen[-1]["result"]["structuredContent"] == {"result": 4}
