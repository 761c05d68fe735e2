"""A Redis that is away for longer than anybody waits, or comes back with less than it had: what streams deliver."""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx2
import pytest

from mcp_sessions.streams.retry import GIVE_UP_SECONDS
from tests.chaos.counting import begun
from tests.chaos.harness import Service, serving, wait_for_heartbeats
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, events, message_of, messages
from tests.support.processes import wait_until
from tests.support.redis import RedisServer, run_server

pytestmark = pytest.mark.slow

#: Calls whose streams were resumed before Redis went, and calls whose clients stayed.
RESUMED: Final = 10
DIRECT: Final = 5
#: Messages of each, all but the first while Redis is away.
NUMBER: Final = 20
BOUND: Final = 60


def is_intact(seen: Sequence[dict[str, Any]]) -> bool:
    """Each number once, in order, and then the result."""
    *numbers, response = seen
    counted = [message["params"]["progress"] for message in numbers]
    return counted == list(range(1, NUMBER + 1)) and "result" in response


def read(response: httpx2.Response) -> list[dict[str, Any]]:
    return list(messages(response))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server that saves only when it is told to."""
    with run_server() as running:
        yield running


@pytest.fixture(scope="module")
def service(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes, which give a store up after a second."""
    directory, server = tmp_path_factory.mktemp("outages"), "tests.served.impatient.server"
    with serving(directory, redis, 2, MCP_SERVER=server, MCP_MAX_STREAMS_PER_SESSION="50") as service:
        yield service


@pytest.fixture
def patient(redis: RedisServer, tmp_path: Path) -> Iterator[Service]:
    """Two processes that give a store up when all do: after thirty seconds."""
    with serving(tmp_path, redis, 2, MCP_MAX_STREAMS_PER_SESSION="50") as service:
        yield service


def stop(redis: RedisServer) -> None:
    """Nothing is lost: from here on nobody gets an answer, and what was answered is saved."""
    with redis.client() as connection:
        connection.shutdown(save=True)
    redis.stop()


@pytest.mark.protocol("H20")
def test_streams_are_intact_after_redis_was_away_for_longer_than_anybody_waits(
    redis: RedisServer, service: Service, tmp_path: Path
) -> None:
    assert_intact_after_an_outage(redis, service, tmp_path)


@pytest.mark.protocol("H20")
def test_streams_are_intact_after_redis_was_away_for_longer_than_the_bound_of_every_process(
    redis: RedisServer, patient: Service, tmp_path: Path
) -> None:
    begun_at = monotonic()
    assert_intact_after_an_outage(redis, patient, tmp_path)
    assert monotonic() - begun_at > GIVE_UP_SECONDS


def assert_intact_after_an_outage(redis: RedisServer, service: Service, tmp_path: Path) -> None:
    """Streams of calls that send messages while Redis is away: resumed ones, and ones whose clients stayed.

    Redis comes back when those whose clients stayed have ended, which they do when their process gives it up.
    """
    a, b = service.urls
    client = RawClient()
    client.initialize(a)
    with ThreadPoolExecutor(RESUMED + DIRECT) as pool, ExitStack() as stack:
        gates = [stack.enter_context(closing(Gate(tmp_path / f"gate{n}"))) for n in range(RESUMED + DIRECT)]
        resumed, direct = [], []
        for at in gates[:RESUMED]:
            start = begun(client, a, at, NUMBER)
            resumed.append(pool.submit(read, stack.enter_context(client.get(b, last_event_id=start))))
        for at in gates[RESUMED:]:
            call = client.calling("count_past", gate=at.path, number=NUMBER)
            direct.append(pool.submit(read, stack.enter_context(client.stream(a, call))))
            at.reached()
        stack.callback(client.delete, b)  # which closes streams that are silent for ever
        stop(redis)
        for at in gates:
            at.open()
        stayed = [each.result(BOUND) for each in direct]  # all while Redis is away
        assert not any(each.done() for each in resumed)
        redis.start()
        returned = [each.result(BOUND) for each in resumed]
    intact, straight = [sum(map(is_intact, each)) for each in (returned, stayed)]
    print(f"Redis away: {intact} of {RESUMED} resumed streams intact, {straight} of {DIRECT} others")  # noqa: T201
    assert (intact, straight) == (RESUMED, DIRECT)
    assert "Traceback" not in "".join(process.log.read_text() for process in service.processes)


@pytest.mark.protocol("H20")
def test_a_client_that_received_a_message_before_it_was_logged_does_not_receive_it_again(
    redis: RedisServer, service: Service, client: RawClient, gate: Gate
) -> None:
    """The client leaves while Redis is away, with an id that only its own connection has seen."""
    a, b = service.urls
    with client.stream(a, client.calling("count_past", gate=gate.path, number=4)) as response:
        received = events(response)
        seen = [next(received), next(received)]
        gate.reached()
        stop(redis)
        gate.open()
        seen += [next(received) for _ in range(2)]
    redis.start()
    with client.get(b, last_event_id=seen[-1].id) as resumed:
        assert resumed.status_code == 200
        rest = list(messages(resumed))
    assert [message_of(event)["params"]["progress"] for event in seen[1:]] == [1, 2, 3]
    assert [message.get("params", {}).get("progress") for message in rest] == [4, None]
    assert rest[-1]["result"]["structuredContent"] == {"result": 4}


def test_a_call_answers_its_client_although_redis_has_lost_everything(
    redis: RedisServer, service: Service, client: RawClient, gate: Gate
) -> None:
    a, _ = service.urls
    with (
        client.get(a) as listening,
        client.stream(a, client.calling("count_past", gate=gate.path, number=5)) as response,
    ):
        received = messages(response)
        assert next(received)["params"]["progress"] == 1
        gate.reached()
        with redis.client() as connection:
            connection.flushall()
        assert list(messages(listening)) == []
        wait_for_heartbeats(service, 2)
        gate.open()
        assert [next(received)["params"]["progress"] for _ in range(4)] == [2, 3, 4, 5]
        assert next(received)["result"]["structuredContent"] == {"result": 5}
        assert next(received, None) is None
    assert client.post(a, client.request("ping")).status_code == 404


@pytest.mark.protocol("H17", "H18")
def test_after_redis_came_back_with_an_older_state_nothing_new_is_skipped_and_no_id_comes_twice(
    redis: RedisServer, service: Service, client: RawClient
) -> None:
    a, b = service.urls
    with client.get(a) as listening:
        received = events(listening)
        ids = [next(received).id]

        def hear(number: int) -> list[str]:
            heard = [next(received) for _ in range(number)]
            ids.extend(event.id for event in heard)
            return [message_of(event)["params"]["uri"] for event in heard]

        client.value(b, "tell", number=3, pace=0)
        assert hear(3) == expected(3)
        with redis.client() as connection:
            connection.save()
        client.value(b, "tell", number=7, pace=0)
        assert hear(7) == expected(7)
        crash(redis)
        wait_until(lambda: tells(client, b, 9), what="Redis to be back")
        assert hear(9) == expected(9)
    assert len(set(ids)) == len(ids) == 20
    with client.get(b, last_event_id=ids[5]) as resumed:  # of a message that Redis has lost
        assert [message["params"]["uri"] for message in islice(messages(resumed), 9)] == expected(9)


def expected(number: int) -> list[str]:
    return [f"chaos://{n}" for n in range(1, number + 1)]


def crash(redis: RedisServer) -> None:
    """It comes back with what it last saved."""
    redis.stop(signal.SIGKILL)
    redis.start()


def tells(client: RawClient, url: str, number: int) -> bool:
    """Whether a call got through that sends so many messages."""
    message = client.request("tools/call", {"name": "tell", "arguments": {"number": number, "pace": 0}})
    return client.post(url, message).status_code == 200
