"""Signed ids at real servers: ON_MISS = "revive", ids that are not ours, and the end of every session."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import quantiles
from typing import Final

import httpx2
import pytest
from django.test import override_settings

from mcp_sessions import ids
from mcp_sessions.audit.models import ENDED
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.jobs import driving, everything
from mcp_sessions.records import Handshake
from tests.support.mcp_client import RawClient, connected, messages
from tests.support.processes import ENVIRONMENT, Process, daphne, daphnes, started, wait_until
from tests.support.redis import RedisServer, run_server

NAMESPACE: Final = "reviving"
CLAUDE: Final = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "claude", "version": "1"},
    capabilities={"roots": {"listChanged": True}},
)
KEY: Final = ENVIRONMENT["DJANGO_SECRET_KEY"]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """One whose data the tests throw away."""
    with run_server() as server:
        yield server


@pytest.fixture(scope="module")
def environment(redis: RedisServer) -> dict[str, str]:
    return {
        "REDIS_URL": redis.url,
        "MCP_SERVER": "tests.served.reviving.server",
        "MCP_NAMESPACE": NAMESPACE,
        "MCP_ON_MISS": "revive",
    }


@pytest.fixture(scope="module")
def processes(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Process]]:
    with daphnes(2, tmp_path_factory.mktemp("reviving"), **environment) as running:
        yield running


@pytest.fixture
def a(processes: list[Process]) -> str:
    return processes[0].url


@pytest.fixture
def b(processes: list[Process]) -> str:
    return processes[1].url


@pytest.fixture
def here(redis: RedisServer) -> Iterator[None]:
    """The test's own process has the settings of the servers."""
    caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}}
    entry = {"SERVER": "tests.served.reviving.server", "NAMESPACE": NAMESPACE, "ON_MISS": "revive"}
    with override_settings(CACHES=caches, MCP_SESSIONS={"default": entry}, SECRET_KEY=KEY):
        yield


def lose_everything(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


def status(url: str, client: RawClient) -> int:
    return client.post(url, client.request("ping")).status_code


def revivals(processes: list[Process], client: RawClient) -> int:
    return sum(each.output().count(f"revived {client.fingerprint}") for each in processes)


def test_a_lost_session_goes_on_with_empty_state_and_is_revived_once(
    processes: list[Process], a: str, b: str, redis: RedisServer
) -> None:
    client = connected(a)
    client.call(a, "remember", name="basket", value=["tea"])
    for round_ in (1, 2):
        lose_everything(redis)
        with ThreadPoolExecutor(10) as pool:
            statuses = list(pool.map(lambda n: status((a, b)[n % 2], client), range(20)))
        assert statuses == [200] * 20
        assert wait_until(lambda: revivals(processes, client), what="the signal") == round_
        assert client.value(b, "names") == []


@pytest.mark.parametrize("tool", ["settle", "settle_in_a_thread"])
def test_a_tool_learns_that_its_session_was_revived_until_it_settles_it(
    a: str, b: str, redis: RedisServer, tool: str
) -> None:
    client = connected(a)
    assert client.value(a, tool) == [False, False]
    lose_everything(redis)
    assert status(a, client) == 200
    assert client.value(b, tool) == [True, False]
    assert client.value(a, tool) == [False, False]


def test_what_was_deleted_stays_deleted_whether_or_not_its_record_was_gone(
    a: str, b: str, redis: RedisServer
) -> None:
    there, lost = connected(a), connected(a)
    with redis.client() as client:
        assert client.delete(f":1:mcp:v1:{NAMESPACE}:{{{lost.fingerprint}}}:session") == 1
    for each in (there, lost):
        assert each.delete(b).status_code == 204
        assert [status(url, each) for url in (a, b)] == [404, 404]
        assert each.delete(a).status_code == 404


def test_a_large_body_is_read_for_a_session_that_is_revived(a: str, redis: RedisServer) -> None:
    client = connected(a)
    lose_everything(redis)
    assert client.value(a, "add", a=1, b=1) == 2
    lose_everything(redis)
    assert "result" in client.call(a, "remember", name="long", value="x" * 100_000)
    assert client.value(a, "names") == ["long"]


def test_a_client_that_listens_hears_of_its_stream_again(a: str, b: str, redis: RedisServer) -> None:
    """With the id of an event that Redis no longer knows."""
    client = connected(a)
    with client.get(a) as listening:
        received = listening.iter_lines()
        last = next(line[3:].strip() for line in received if line.startswith("id:"))
    lose_everything(redis)
    with client.get(b, last_event_id=last) as resumed:
        assert resumed.status_code == 200
        heard = messages(resumed)
        client.call(a, "announce")
        assert next(heard)["method"].startswith("notifications/")


def test_ids_that_are_not_ours_cost_redis_no_command(a: str, redis: RedisServer) -> None:
    client = connected(a)
    with redis.client() as looking:

        def scripts() -> int:
            return int(looking.info("commandstats")["cmdstat_evalsha"]["calls"])

        text, before = client.session_id or "", scripts()
        status(a, client)
        assert scripts() > before
        before, requests = scripts(), 0
        for n in range(60):
            for unknown in (f"{text[:-3]}{n:03}", text[: -n - 1], f"{n:043}", text + "A"):
                other = RawClient(session_id=unknown)
                with other.get(a) as listening:
                    assert listening.status_code == 404
                assert (status(a, other), other.delete(a).status_code) == (404, 404)
                requests += 3
        # The heartbeats of two processes, and what they look after.
        assert scripts() - before < requests / 4


@pytest.mark.usefixtures("here")
def test_a_forged_a_foreign_and_an_unknown_id_get_the_same_answer_in_the_same_time(a: str) -> None:
    def minted(principal: str = "anonymous", namespace: str = NAMESPACE) -> str:
        now = round(time.time() * 1000)
        return ids.mint(
            CLAUDE, principal=principal, namespace=namespace, created_ms=now, max_age_ms=86_400_000
        ).text

    ours = connected(a).session_id or ""
    kinds: dict[str, Callable[[], str]] = {
        "forged": lambda: minted()[:-24] + "A" * 24,
        "of another principal": lambda: minted("user:1"),
        "of another namespace": lambda: minted(namespace="shop"),
        "of an earlier release": lambda: os.urandom(32).hex()[:43],
        "cut off": lambda: ours[:-1],
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = set()
    for _ in range(100):
        for kind, make in kinds.items():
            client = RawClient(session_id=make())
            message = client.request("ping")
            start = time.perf_counter()
            response = client.post(a, message)
            taken[kind].append(time.perf_counter() - start)
            answers.add((response.status_code, response.content))
    assert len(answers) == 1
    assert answers.pop()[0] == 404
    # Of each kind a quarter was faster: whatever else the machine does makes some of them slower.
    fast = {kind: quantiles(each, n=4)[0] for kind, each in taken.items()}
    assert max(fast.values()) < 1.5 * min(fast.values()), fast


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("here")
def test_every_session_that_was_opened_before_ends_also_what_redis_has_lost(
    processes: list[Process], a: str, b: str, redis: RedisServer
) -> None:
    there, lost = connected(a), connected(b)
    with redis.client() as client:
        client.delete(f":1:mcp:v1:{NAMESPACE}:{{{lost.fingerprint}}}:session")
    with there.get(b) as listening:
        job = driving.drive(everything.begin("default", by="test"))
        ended = set(job.entries.filter(outcome=ENDED).values_list("fingerprint", flat=True))
        with suppress(httpx2.HTTPError):
            listening.read()
    assert there.fingerprint in ended
    assert lost.fingerprint not in ended
    for client in (there, lost):
        for url in (a, b):
            wait_until(lambda url=url, client=client: status(url, client) == 404, seconds=1, what="404")  # type: ignore[misc]
    later = connected(a)
    assert [status(url, later) for url in (a, b)] == [200, 200]

    # Redis loses its memory of that, too: the processes tell it again, and never forget.
    lose_everything(redis)
    assert [status(url, each) for url in (a, b) for each in (there, lost)] == [404] * 4
    with redis.client() as client:
        wait_until(lambda: client.exists(f":1:mcp:v1:{{{NAMESPACE}}}:min-created"), what="the moment")
    assert [status(url, later) for url in (a, b)] == [200, 200]


@pytest.fixture
def third(environment: dict[str, str], tmp_path: Path) -> Process:
    return daphne("third", tmp_path, **environment)


@pytest.mark.usefixtures("here")
def test_a_process_with_another_key_is_told_apart(
    a: str, b: str, third: Process, environment: dict[str, str]
) -> None:
    third.environment |= {"DJANGO_SECRET_KEY": "quite-another-key-of-the-third-process"}
    ours = connected(a)
    connected(b)  # a process joins the others with its first request
    with started([third]):
        theirs = connected(third.url)
        assert (status(third.url, ours), status(a, theirs)) == (404, 404)
        third.wait_until_it_says("This node has another SECRET_KEY than ")
        for url in (a, third.url):
            ready = httpx2.get(f"{url}/readyz")
            assert ready.status_code == 200
            assert "have different SECRET_KEYs" in ready.text
        assert all(node.is_stranger for node in nodes_of(["default"]))
    wait_until(lambda: len(nodes_of(["default"])) == 2, what="the third to leave")
    assert not any(node.is_stranger for node in nodes_of(["default"]))
    assert httpx2.get(f"{a}/readyz").text == "ready\n"


def test_a_key_is_replaced_without_losing_a_session_if_each_side_accepts_the_others(
    a: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    new = "the-key-that-comes-after-the-one-of-the-tests"
    ahead = daphne("ahead", tmp_path, **environment, DJANGO_SECRET_KEY_FALLBACKS=new)
    after = daphne("after", tmp_path, **environment, DJANGO_SECRET_KEY_FALLBACKS=KEY)
    after.environment |= {"DJANGO_SECRET_KEY": new}
    old = connected(a)
    with started([ahead, after]):
        young = connected(after.url)
        assert [status(each.url, old) for each in (ahead, after)] == [200, 200]
        assert [status(each.url, young) for each in (ahead, after)] == [200, 200]
        # This process was not told of the new key first.
        assert status(a, young) == 404
