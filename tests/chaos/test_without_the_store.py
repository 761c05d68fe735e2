"""ON_STORE_DOWN = "serve": three processes go on while Redis is gone, hangs or flaps, and nothing is doubled after."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from math import inf
from pathlib import Path
from typing import Final

import httpx2
import pytest

from tests.chaos.harness import Service, serving
from tests.support.mcp_client import RawClient, answer_of, connected, hearing_of_tools
from tests.support.processes import HOST, daphne, started, wait_until
from tests.support.proxies import Cut
from tests.support.redis import RedisServer, run_server

pytestmark = pytest.mark.slow

#: Clients that call all the time, seconds between two calls of each, and seconds of an outage. The figures of
#: docs/tested.md are those of OUTAGE_CLIENTS=200 OUTAGE_SECONDS=120 OUTAGE_PACE=16.
CLIENTS: Final = int(os.environ.get("OUTAGE_CLIENTS", "12"))
SECONDS: Final = float(os.environ.get("OUTAGE_SECONDS", "6"))
PACE: Final = float(os.environ.get("OUTAGE_PACE", "1"))
#: Sessions that are opened while Redis is away.
OPENED: Final = 3
#: Seconds after which nobody waits: SOCKET_TIMEOUT, and the probe after it.
FIRST: Final = 2.5
#: Seconds that half of the calls take at most from then on: a tenth of what they would wait.
QUICK: Final = 0.25
BOUND: Final = max(20.0, 4 * PACE)
EVERYTHING: Final = "tests.served.everything.server"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_server(keep=True) as running:
        yield running


@pytest.fixture(scope="module")
def service(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("serve")
    with serving(directory, redis, 3, MCP_SERVER=EVERYTHING, MCP_ON_STORE_DOWN="serve") as service:
        for url in service.urls:
            connected(url).delete(url)  # each has joined the others
        yield service


@dataclass(kw_only=True)
class Calls:
    """What clients saw that call one process after the other, whatever happens."""

    urls: list[str]
    clients: list[RawClient]
    #: For each call when it was sent, by the monotonic clock, and the seconds until its answer.
    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def go_on(self, http: httpx2.AsyncClient, client: RawClient, n: int) -> None:
        """Call a tool of one client for ever."""
        await asyncio.sleep(PACE * n / len(self.clients))
        for url in cycle(self.urls[n % 3 :] + self.urls[: n % 3]):
            message = client.request("tools/call", {"name": "add", "arguments": {"a": n, "b": 1}})
            sent = time.monotonic()
            try:
                response = await http.post(f"{url}/mcp", json=message, headers=client.headers())
                assert response.status_code == 200, f"{response.status_code} {response.text}"
                assert answer_of(response)["result"]["structuredContent"] == {"result": n + 1}
            except (httpx2.HTTPError, AssertionError, KeyError) as error:
                self.failed.append(f"{error!r}")
            self.answered.append((sent, time.monotonic() - sent))
            await asyncio.sleep(max(0.0, sent + PACE - time.monotonic()))

    async def next_of_all(self, count: int) -> None:
        """Wait for so many more calls of each client, about."""
        goal = len(self.answered) + count * len(self.clients)
        async with asyncio.timeout(BOUND):
            while len(self.answered) < goal:
                await asyncio.sleep(PACE / 10)

    def quantile(self, part: float, *, since: float = 0.0, until: float = inf) -> float:
        took = sorted(seconds for sent, seconds in self.answered if since <= sent < until)
        return took[int(len(took) * part)]


@asynccontextmanager
async def calling(urls: list[str], clients: list[RawClient]) -> AsyncIterator[Calls]:
    calls = Calls(urls=urls, clients=clients)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(timeout=BOUND, limits=limits) as http, asyncio.TaskGroup() as group:
        tasks = [group.create_task(calls.go_on(http, each, n)) for n, each in enumerate(clients)]
        yield calls
        for task in tasks:
            task.cancel()


def outage(redis: RedisServer, how: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """What begins and what ends it; both are called in the main thread, because servers die with the thread that
    started them."""
    return (redis.kill, redis.launch) if how == "gone" else (redis.pause, redis.resume)


@pytest.mark.parametrize("how", ["gone", "hung"])
async def test_every_call_that_needs_no_state_is_answered_while_redis_is_away(
    redis: RedisServer, service: Service, how: str
) -> None:
    begin, end = outage(redis, how)
    clients = await asyncio.to_thread(lambda: [connected(service.urls[n % 3]) for n in range(CLIENTS)])
    for client in clients[:3]:
        await asyncio.to_thread(remember, client, service.urls[0])
    before = set(fingerprints(redis))
    async with calling(service.urls, clients) as calls:
        await calls.next_of_all(2)
        begin()
        away = time.monotonic()
        await asyncio.sleep(FIRST)
        opened = await asyncio.to_thread(lambda: [connected(service.urls[n % 3]) for n in range(OPENED)])
        added = await asyncio.to_thread(
            lambda: [each.value(url, "add", a=1, b=2) for each in opened for url in service.urls]
        )
        await asyncio.sleep(SECONDS - FIRST)
        end()
        await asyncio.to_thread(redis.wait_until_it_answers)
        back = time.monotonic()
        recorded = before | {client.fingerprint for client in opened}
        await asyncio.to_thread(
            lambda: wait_until(lambda: set(fingerprints(redis)) == recorded, what="records of new sessions")
        )
        await calls.next_of_all(2)
    while_away = [each for each in calls.answered if away <= each[0] < back]
    p99 = partial(calls.quantile, 0.99)
    print(  # noqa: T201 - the figures of docs/tested.md
        f"Redis {how} for {back - away:.0f} s, {CLIENTS} clients: {len(while_away)} calls meanwhile, "
        f"{len(calls.answered)} in all, {len(calls.failed)} failed; p99 {p99(since=away, until=back):.3f} s, "
        f"after the first {FIRST} s {p99(since=away + FIRST, until=back):.3f} s, "
        f"before the outage {p99(until=away):.3f} s, slowest {calls.quantile(0.9999):.2f} s"
    )
    assert calls.failed == []
    assert added == [3] * OPENED * 3
    # A machine that is busy makes single calls slow, and a store that is waited for makes all of them slow.
    assert calls.quantile(0.5, since=away + FIRST, until=back) < QUICK
    for client in clients[:3]:
        recalled = client.call(service.urls[1], "recall", name="mine")["result"]["structuredContent"]
        assert recalled == {"value": client.fingerprint}
    for client in (*clients, *opened):
        assert client.delete(service.urls[2]).status_code == 204
    assert_counts_nothing(redis, service)


def remember(client: RawClient, url: str) -> None:
    """Put the session's fingerprint into its state; on a busy machine the store may seem to be away for a moment."""

    def succeeds() -> bool:
        result = client.call(url, "remember", name="mine", value=client.fingerprint)["result"]
        return not result["isError"]

    wait_until(succeeds, what="the store to be there")


def fingerprints(redis: RedisServer) -> list[str]:
    """Of the sessions that Redis holds."""
    with redis.client(decode_responses=True) as client:
        return [key.split("{")[1].split("}")[0] for key in client.scan_iter(match="*}:session", count=1000)]


def assert_counts_nothing(redis: RedisServer, service: Service) -> None:
    """No session is left, in no index."""
    assert fingerprints(redis) == []
    with redis.client(decode_responses=True) as client:
        left = [key for key in client.scan_iter(match="*:activity*") if client.zcard(key)]
    assert left == []
    assert "Traceback" not in "".join(process.log.read_text() for process in service.processes)


def adds(client: RawClient, url: str) -> int:
    """The status of a call that needs no state."""
    call = client.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
    return client.post(url, call).status_code


def readiness(url: str) -> tuple[int, str]:
    answer = httpx2.get(f"{url}/readyz", timeout=BOUND)
    return answer.status_code, answer.text.split("\n")[0]


def test_a_process_that_is_cut_off_serves_what_ended_elsewhere_until_it_is_back(
    redis: RedisServer, service: Service, tmp_path: Path
) -> None:
    """And what it opens works everywhere at once, and stays ended when it is ended elsewhere."""
    here = service.urls[0]
    with Cut(redis) as network:
        environment = {**service.processes[0].environment, "REDIS_URL": f"redis://{HOST}:{network.port}/0"}
        process = daphne("cut-off", tmp_path, **environment)
        with started([process]):
            there = process.url
            kept, ended, known, listening = (
                *(connected(there) for _ in range(2)),
                connected(here),
                connected(there),
            )
            with listening.get(there) as stream:
                known.delete(here)
                listening.delete(here)
                stream.read()  # until it closes: nodes hear of ends in their order
            # For `here` the outage of the test before is over 10 s after its last request without Redis.
            wait_until(lambda: readiness(here) == (200, "ready") == readiness(there), what="both to be ready")
            network.cut()
            assert [adds(each, there) for each in (kept, ended)] == [200, 200]
            assert ended.delete(here).status_code == 204
            assert [adds(ended, url) for url in (here, there)] == [404, 200]
            assert adds(known, there) == 404, "it had heard of that end"
            opened, passing = connected(there), connected(there)
            assert [adds(each, here) for each in (opened, passing)] == [200, 200]
            assert passing.delete(here).status_code == 204
            assert readiness(there) == (200, "degraded")
            assert readiness(here) == (200, "ready")
            network.mend()
            wait_until(lambda: adds(ended, there) == 404, what="the end to be known")
            wait_until(lambda: readiness(there) == (200, "ready"), what="the end of the outage")
            assert [adds(each, url) for each in (kept, opened) for url in (here, there)] == [200] * 4
            assert [adds(passing, url) for url in (here, there)] == [404, 404]
            for each in (kept, opened):
                assert each.delete(here).status_code == 204
    assert_counts_nothing(redis, service)


def test_a_process_that_starts_in_the_outage_serves_and_one_that_dies_in_it_loses_no_session(
    redis: RedisServer, service: Service, tmp_path: Path
) -> None:
    """It is not ready: it might have a wrong address. Those that have reached Redis are."""
    a, b, _ = service.urls
    client = connected(a)
    dying, late = (daphne(name, tmp_path, **service.processes[0].environment) for name in ("dying", "late"))
    with started([dying]):
        connected(dying.url).delete(dying.url)
        redis.stop()
        opened, ended = connected(dying.url), connected(dying.url)
        assert ended.delete(dying.url).status_code == 503
        assert (adds(ended, dying.url), adds(ended, a)) == (404, 200)
        dying.kill()
    with started([late]):
        assert [adds(each, late.url) for each in (client, opened)] == [200, 200]
        with hearing_of_tools(late.url):
            assert readiness(late.url)[0] == 503
        assert [readiness(url) for url in (a, b)] == [(200, "degraded")] * 2
        redis.start()
        wait_until(lambda: readiness(late.url) == (200, "ready"), what="the late process to be ready")
    assert [adds(opened, url) for url in (a, b)] == [200, 200]
    assert adds(ended, b) == 200, "its end died with its process"
    for each in (client, opened, ended):
        assert each.delete(b).status_code == 204
    assert_counts_nothing(redis, service)


def test_a_redis_that_comes_back_empty_leaves_no_client_behind_where_sessions_are_revived(
    tmp_path: Path,
) -> None:
    """Those that were opened before, and in the outage; what ended in it stays ended."""
    with (
        run_server() as redis,
        serving(
            tmp_path, redis, 2, MCP_SERVER=EVERYTHING, MCP_ON_STORE_DOWN="serve", MCP_ON_MISS="revive"
        ) as service,
    ):
        a, b = service.urls
        clients = [connected(url) for url in (a, b)]
        leaving, left = connected(a), connected(b)
        assert left.delete(a).status_code == 204
        redis.stop()
        clients += [connected(url) for url in (a, b)]
        assert leaving.delete(a).status_code == 503
        assert [adds(client, url) for client in clients for url in (a, b)] == [200] * 8
        assert [adds(left, url) for url in (a, b)] == [404, 404]
        redis.start()
        wait_until(lambda: readiness(a) == (200, "ready") == readiness(b), what="the end of the outage")
        wait_until(lambda: adds(leaving, b) == 404, what="the end to be known")
        for client in clients:
            assert [adds(client, url) for url in (a, b)] == [200, 200]
            remember(client, a)
            assert client.delete(b).status_code == 204
            assert [adds(client, url) for url in (a, b)] == [404, 404]
        assert_counts_nothing(redis, service)


async def test_no_call_fails_while_redis_comes_and_goes(redis: RedisServer, service: Service) -> None:
    clients = await asyncio.to_thread(lambda: [connected(service.urls[n % 3]) for n in range(CLIENTS)])
    async with calling(service.urls, clients) as calls:
        for how in ("gone", "hung", "gone", "hung"):
            begin, end = outage(redis, how)
            begin()
            await calls.next_of_all(1)
            end()
            await asyncio.to_thread(redis.wait_until_it_answers)
            await calls.next_of_all(1)
    assert calls.failed == []
    for client in clients:
        assert client.delete(service.urls[0]).status_code == 204
    assert_counts_nothing(redis, service)
