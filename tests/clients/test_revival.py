"""ON_MISS = "revive": Redis comes back empty, and no client has to be connected anew by hand."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.driven import DrivenClient, Event, driven
from tests.clients.known import Known
from tests.clients.test_eras import remembered, sessions
from tests.clients.test_stream_clients import client as client  # a fixture
from tests.clients.test_stream_clients import structured
from tests.support.processes import Process, daphnes, wait_until
from tests.support.proxies import Switch
from tests.support.redis import RedisServer, run_server

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetful:
    """A process behind a switch of the test's own, and its Redis, which keeps nothing."""

    redis: RedisServer
    process: Process
    switch: Switch

    @property
    def url(self) -> str:
        return f"{self.switch.url}/mcp"

    def lose_everything(self) -> None:
        self.redis.stop(signal.SIGKILL)
        self.redis.start()


@pytest.fixture(scope="module")
def process_and_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, RedisServer]]:
    with run_server() as redis:
        environment = {
            "REDIS_URL": redis.url,
            "MCP_SERVER": "tests.served.clients.server",
            "MCP_NAMESPACE": "revival",
            "MCP_ERAS": "handshake",
            "MCP_ON_MISS": "revive",
        }
        with daphnes(1, tmp_path_factory.mktemp("revival"), **environment) as [process]:
            yield process, redis


@pytest.fixture
def forgetful(process_and_redis: tuple[Process, RedisServer]) -> Iterator[Forgetful]:
    process, redis = process_and_redis
    with Switch(process) as switch:
        yield Forgetful(redis=redis, process=process, switch=switch)


def test_after_redis_lost_everything_each_client_goes_on_with_its_session(
    known: Known, forgetful: Forgetful, tmp_path: Path
) -> None:
    with driven(known.command(), tmp_path) as client:
        client.open(forgetful.url)
        assert remembered(client, "tea") == ["tea"]
        [session_id] = sessions(forgetful.switch)
        for fact in ("milk", "cake"):
            forgetful.lose_everything()
            assert remembered(client, fact) == [fact]
            assert remembered(client, "tea") == [fact, "tea"]
        assert sessions(forgetful.switch) == {session_id}


def test_after_redis_lost_everything_a_client_is_asked_and_hears_what_is_announced(
    client: DrivenClient, forgetful: Forgetful, tmp_path: Path
) -> None:
    client.open(forgetful.url)
    client.call("add", a=1, b=1)
    listens = [request for request in forgetful.switch.served if request.method == "GET"]
    forgetful.lose_everything()
    (tmp_path / "gate").touch()
    client.tell("call", tool="ask", arguments={"gate": str(tmp_path / "gate")})
    assert client.next_event() == Event(kind="asked", value="How old?")
    assert structured(client)["heard"] == "33"
    wait_until(
        lambda: len([r for r in forgetful.switch.served if r.method == "GET"]) > len(listens),
        what="the client to listen again",
    )
    client.close()
