"""What servers say of themselves, as operators see it: with fields that are missing, refused, or of another kind."""

import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store import servers
from mcp_sessions.store.servers import ServerFacts, facts_of

INFO: dict[str, Any] = {
    "redis_version": "7.4.1",
    "used_memory": 1_000,
    "maxmemory": 2_000,
    "maxmemory_policy": "noeviction",
    "evicted_keys": 3,
    "aof_enabled": 1,
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
    "role": "master",
    "min_slaves_good_slaves": 1,
}
SAVE, WANTED = {"save": "3600 1"}, {"min-replicas-to-write": "3"}


class Client:
    """Gives replies to INFO and to CONFIG GET of two names, in a pipeline."""

    def __init__(self) -> None:
        self.replies: list[Any] = [INFO, SAVE, WANTED]
        self.asked: list[str] = []

    def pipeline(self, *, transaction: bool) -> "Client":
        assert not transaction
        self.asked = []
        return self

    def info(self) -> None:
        self.asked.append("info")

    def config_get(self, name: str) -> None:
        self.asked.append(name)

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        assert self.asked == ["info", "save", "min-replicas-to-write"]
        return self.replies


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    with (
        mock.patch.object(servers, "redis_cache"),
        mock.patch.object(servers, "sync_client", return_value=made),
        mock.patch.object(time, "perf_counter", side_effect=(5.0, 5.25)),
    ):
        yield made


def facts(client: Client, *, info: Any = INFO, save: Any = SAVE, wanted: Any = WANTED) -> ServerFacts:
    client.replies = [info, save, wanted]
    [found] = facts_of("default")
    return found


def test_a_server_says_what_it_is(client: Client) -> None:
    assert facts(client) == ServerFacts(
        name="",
        version="7.4.1",
        used_memory=1_000,
        maxmemory=2_000,
        policy="noeviction",
        evicted=3,
        appends=True,
        saves=True,
        snapshots="3600 1",
        is_replica=False,
        missing_replicas=2,
        seconds=0.25,
        refusal="",
    )


def test_what_a_server_does_not_say_it_is_taken_to_have(client: Client) -> None:
    found = facts(client, info={}, save={}, wanted={})
    assert (found.version, found.policy, found.used_memory, found.maxmemory, found.evicted) == (
        "",
        "",
        0,
        0,
        0,
    )
    assert (found.appends, found.saves, found.is_replica, found.missing_replicas) == (False, True, False, 0)
    assert (found.snapshots, found.refusal) == ("", "")


def test_a_server_without_config_tells_neither_snapshots_nor_how_many_replicas_it_needs(
    client: Client,
) -> None:
    refused = ResponseError("unknown command 'CONFIG'")
    found = facts(client, save=refused, wanted=refused)
    assert (found.snapshots, found.missing_replicas, found.version) == (None, 0, "7.4.1")


def test_a_server_that_refuses_info_tells_why_and_nothing_else(client: Client) -> None:
    found = facts(client, info=NoPermissionError("may not"))
    assert (found.refusal, found.snapshots, found.used_memory, found.saves) == ("may not", None, 0, True)


@pytest.mark.parametrize("field", ["rdb_last_bgsave_status", "aof_last_write_status"])
def test_a_server_that_could_not_write_to_its_disk_says_so(client: Client, field: str) -> None:
    assert not facts(client, info=INFO | {field: "err"}).saves


def test_settings_that_come_as_bytes_are_read(client: Client) -> None:
    found = facts(client, save={b"save": b"60 1"}, wanted={b"min-replicas-to-write": b"2"})
    assert (found.snapshots, found.missing_replicas) == ("60 1", 1)


def test_no_replica_is_missing_on_a_replica_or_if_there_are_more_than_it_takes(client: Client) -> None:
    with mock.patch.object(time, "perf_counter", return_value=0.0):
        replica = facts(client, info=INFO | {"role": "slave"})
        assert (replica.is_replica, replica.missing_replicas) == (True, 0)
        assert facts(client, info=INFO | {"min_slaves_good_slaves": 4}).missing_replicas == 0


def test_a_server_that_does_not_answer_is_unavailable_and_the_reason_is_short(client: Client) -> None:
    with pytest.raises(StoreUnavailable, match=r"^ConnectionError: x{183}$"):
        facts(client, info=RedisConnectionError("x" * 1_000))


def test_sessions_in_memory_have_no_server() -> None:
    with mock.patch.object(servers, "redis_cache", return_value=None):
        assert facts_of("default") == []


class Node:
    """A primary, as the client of a Cluster knows it."""

    def __init__(self, port: int, *infos: Any) -> None:
        self.host, self.port = "one", port
        self._infos = list(infos)

    def client(self) -> Client:
        """What a connection to it replies, each time anew."""
        made = Client()
        made.replies = [self._infos.pop(0), SAVE, WANTED]
        return made


@pytest.fixture
def cluster() -> Iterator[mock.Mock]:
    made = mock.Mock(spec=RedisCluster, nodes_manager=mock.Mock())
    made.get_redis_connection.side_effect = Node.client
    with (
        mock.patch.object(servers, "redis_cache"),
        mock.patch.object(servers, "sync_client", return_value=made),
    ):
        yield made


REPLICA = INFO | {"role": "slave"}


def test_each_primary_of_a_cluster_is_asked_and_named(cluster: mock.Mock) -> None:
    cluster.get_primaries.return_value = [Node(1, INFO), Node(2, INFO | {"used_memory": 7})]
    found = [(each.name, each.used_memory, each.is_replica) for each in facts_of("default")]
    assert found == [("one:1", 1_000, False), ("one:2", 7, False)]
    cluster.nodes_manager.initialize.assert_not_called()


@pytest.mark.parametrize("first", [REPLICA, RedisConnectionError("away"), RedisTimeoutError("slow")])
def test_a_cluster_that_has_other_primaries_now_is_asked_for_them_once(
    cluster: mock.Mock, first: Any
) -> None:
    cluster.get_primaries.side_effect = [[Node(1, first)], [Node(2, INFO)]]
    assert [each.name for each in facts_of("default")] == ["one:2"]
    cluster.nodes_manager.initialize.assert_called_once_with()

    cluster.get_primaries.side_effect = [[Node(1, first)], [Node(1, REPLICA)]]
    with pytest.raises(StoreUnavailable, match="one:1 is a replica now"):
        facts_of("default")


def test_any_other_error_of_a_cluster_is_no_reason_to_ask_for_its_primaries(cluster: mock.Mock) -> None:
    cluster.get_primaries.return_value = [Node(1, NoPermissionError("odd"))]
    [found] = facts_of("default")
    assert found.refusal == "odd"
    cluster.get_primaries.side_effect = RedisError("broken")
    with pytest.raises(StoreUnavailable, match="RedisError: broken"):
        facts_of("default")
    cluster.nodes_manager.initialize.assert_not_called()
