"""What the overview, `doctor` and the metrics say of Redis servers that change, or do not tell."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.test import RequestFactory
from redis.exceptions import MovedError

from mcp_sessions import metrics
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.clients import sync_client
from mcp_sessions.store.servers import facts_of
from tests.admin.pages import LIST, body, endpoint, on_redis, staff
from tests.support.caches import cluster_cache
from tests.support.processes import wait_until
from tests.support.redis import RedisCluster, RedisServer, run_cluster, run_server

pytestmark = pytest.mark.django_db


@pytest.fixture
def cluster(settings: LazySettings) -> Iterator[RedisCluster]:
    with run_cluster(replicas=True) as running:
        settings.CACHES, settings.MCP_SESSIONS = {"default": cluster_cache(running)}, {"default": endpoint()}
        yield running


def named() -> set[str]:
    """The ports of the servers that are looked at."""
    return {each.name.rpartition(":")[2] for each in facts_of("default")}


def ports(servers: list[RedisServer]) -> set[str]:
    return {str(each.port) for each in servers}


@pytest.mark.slow
def test_the_primaries_of_a_cluster_are_those_of_now(cluster: RedisCluster) -> None:
    viewer = staff("view_mcpsession", name="viewer")
    assert named() == ports(cluster.primaries())

    demoted = cluster.primaries()[0]
    promoted = cluster.replica_of(demoted)
    with promoted.client() as client:
        client.execute_command("CLUSTER FAILOVER")
    wait_until(lambda: promoted in cluster.primaries() and demoted not in cluster.primaries())
    assert named() == ports(cluster.primaries())

    dead = cluster.primaries()[1]
    dead.kill()
    wait_until(lambda: len(cluster.primaries()) == 3, what="a replica to take over")

    def said() -> str:
        """The page of a process that does nothing else."""
        return body(viewer.get(f"{LIST}overview/"))

    wait_until(lambda: "does not answer" not in said(), what="the overview to know the new primary")
    assert named() == ports(cluster.primaries())


@pytest.mark.slow
def test_a_node_that_a_command_was_sent_on_to_is_looked_at(cluster: RedisCluster) -> None:
    known: Any = sync_client("default")
    assert named() == ports(cluster.primaries())
    moved_to = cluster.primaries()[0]
    name = f"127.0.0.1:{moved_to.port}"
    del known.nodes_manager.nodes_cache[name]
    known.nodes_manager.move_slot(MovedError(f"0 {name}"))
    assert named() == ports(cluster.primaries())


@pytest.fixture
def closed(settings: LazySettings) -> Iterator[None]:
    """A Redis whose user may call no command of the category @dangerous, INFO among them."""
    with run_server() as server:
        with server.client() as client:
            client.execute_command("ACL SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-@dangerous")
        settings.CACHES = on_redis(server.url.replace("redis://", "redis://app:secret@"))
        settings.MCP_SESSIONS = {"default": endpoint()}
        yield


@pytest.mark.usefixtures("closed")
def test_a_redis_that_may_not_be_asked_about_itself_answers_all_the_same() -> None:
    page = body(staff("view_mcpsession", name="viewer").get(f"{LIST}overview/"))
    assert "does not answer" not in page
    assert "does not tell about its memory and its disk: User app has no permissions" in page
    assert "keeps nothing on disk" not in page
    assert "Open sessions" in page
    out = StringIO()
    call_command("mcp_sessions", "stats", stdout=out, skip_checks=True)
    assert "memory unknown, answers in" in out.getvalue()
    assert "opened, last hour" in out.getvalue()
    scraped = metrics.cluster(token=None)(RequestFactory().get("/metrics"))
    assert scraped.status_code == 200
    text = scraped.content.decode()
    assert 'mcp_redis_answer_seconds{cache="default",server=""}' in text
    assert "mcp_redis_memory_bytes{" not in text


@pytest.fixture
def pair(settings: LazySettings) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, which is the cache, and its replica."""
    with run_server() as primary, run_server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        settings.CACHES, settings.MCP_SESSIONS = on_redis(primary.url), {"default": endpoint()}
        yield primary, replica


def found() -> set[str]:
    """The codes of what the doctor finds, of Redis and writes."""
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("mcp_sessions", "doctor", "--json", stdout=out, skip_checks=True)
    return {each["code"] for each in json.loads(out.getvalue())} & {
        "redis-is-replica",
        "redis-lacks-replicas",
    }


def test_a_redis_that_refuses_writes_is_found(
    pair: tuple[RedisServer, RedisServer], settings: LazySettings
) -> None:
    primary, replica = pair
    with primary.client(decode_responses=True) as client:
        wait_until(lambda: client.info("replication")["connected_slaves"] == 1, what="the replica")
        assert found() == set()
        client.config_set("min-replicas-to-write", 2)
        assert found() == {"redis-lacks-replicas"}
        # The server counts those that keep up once a second.
        viewer, words = (
            staff("view_mcpsession", name="viewer"),
            "refuses writes, because 1 replica is missing",
        )
        wait_until(lambda: words in body(viewer.get(f"{LIST}overview/")), what="what is wrong")
        client.config_set("min-replicas-to-write", 1)
        assert found() == set()
    settings.CACHES = on_redis(replica.url)
    assert found() == {"redis-is-replica"}


def test_a_redis_that_is_away_is_away(settings: LazySettings) -> None:
    with run_server() as server:
        settings.CACHES = on_redis(server.url)
        server.stop()
        with pytest.raises(StoreUnavailable):
            facts_of("default")
