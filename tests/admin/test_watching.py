"""`manage.py mcp_sessions` with `stats`, `watch`, `tools` and `doctor`, over real Redis servers."""

import json
import re
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from mcp_sessions.ending import end_all_before_now, end_session
from mcp_sessions.inventory import findings, leftovers
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, endpoint, on_redis
from tests.admin.test_overview import count
from tests.support.redis import RedisServer, run_server
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis whose settings these tests may change; it keeps nothing on disk."""
    with run_server() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer, settings: LazySettings) -> Iterator[Any]:
    """An empty one that appends to a file, and one endpoint there: nothing is wrong but that no node serves it."""
    settings.CACHES, settings.MCP_SESSIONS = on_redis(server.url), {"default": endpoint()}
    with server.client() as client:
        client.flushall()
        client.config_set("appendonly", "yes")
        yield client
        client.config_set("maxmemory-policy", "noeviction")


def run(*arguments: Any) -> tuple[str, int]:
    """What it prints, and its exit code."""
    out, code = StringIO(), 0
    try:
        call_command("mcp_sessions", *arguments, stdout=out, skip_checks=True)
    except SystemExit as ended:
        code = int(str(ended.code))
    return out.getvalue(), code


def doctor() -> tuple[set[str], int]:
    """The codes of what it finds, and its exit code. This machine may be busy, and so its Redis be slow."""
    with mock.patch.object(findings, "SLOW_SECONDS", 10):
        out, code = run("doctor", "--json")
    return {each["code"] for each in json.loads(out)}, code


def beat(node: str, *keys: str) -> None:
    about = json.dumps({"host": "web", "pid": 7, "keys": keys})
    sync_store_for("default").run(nodes.beat(node, about=about, forget_after_ms=60_000))


@pytest.mark.usefixtures("redis")
def test_stats_tells_what_there_is_and_what_was_counted() -> None:
    open_sessions([Opened(), Opened(kind="handle", label="basket", name="basket-1")])
    beat("a", "key")
    count(tools={"add": [(20, "ok")] * 3})
    count("default", numbers={"sessions_opened": 4, "requests:ok": 3, "requests:error": 1})
    lines, code = run("stats")
    assert code == 0
    told = [" ".join(line.split()) for line in lines.splitlines()]
    assert {
        "sessions 1",
        "processes 1",
        "opened, last hour 4",
        "requests, last hour 4",
        "failed, last hour 1",
    } <= {*told}
    document = json.loads(run("stats", "--json", "--span", "day")[0])
    assert (document["sessions"], document["handles"], document["processes"]) == (1, 1, 1)
    assert (document["span"], document["opened"], document["requests"], document["failed"]) == (
        "day",
        4,
        4,
        1,
    )
    assert document["tools"][0]["calls"] == 3
    assert document["nodes"][0]["pid"] == 7
    assert document["redis"]["default"][0]["appends"] is True


@pytest.mark.usefixtures("redis")
def test_watch_prints_a_line_each_time() -> None:
    count(numbers={"sessions_opened": 1234})
    lines = run("watch", "--interval", "0.01", "--count", "3")[0].splitlines()
    assert len(lines) == 3
    assert "opened 1,234" in lines[2]
    documents = [
        json.loads(line)
        for line in run("watch", "--interval", "0.01", "--count", "2", "--json")[0].splitlines()
    ]
    assert [each["opened"] for each in documents] == [1234, 1234]
    for interval in ("0", "-1", "nonsense", "nan"):
        with pytest.raises(CommandError, match="interval"):
            run("watch", "--interval", interval)


@pytest.mark.usefixtures("redis")
def test_tools_lists_the_calls_of_each_tool() -> None:
    count(tools={"add": [(20, "ok")] * 3, "\x1b[31mred": [(400, "tool error")] * 4})
    lines = run("tools")[0].splitlines()
    assert lines[0].split() == ["TOOL", "CALLS", "FAILED", "CANCELLED", "P50", "MS", "P95", "MS"]
    assert lines[1].split()[1:4] == ["4", "4", "0"]
    assert "\x1b" not in lines[1], "a name cannot steer the terminal"
    assert [each["tool"] for each in json.loads(run("tools", "--json")[0])] == ["\x1b[31mred", "add"]


def test_watching_goes_on_while_redis_is_away(settings: LazySettings) -> None:
    settings.CACHES, settings.MCP_SESSIONS = on_redis("redis://127.0.0.1:1/0"), {"default": endpoint()}
    out, code = run("watch", "--count", "1")
    assert (code, "findings 1" in out) == (0, True)
    assert "does not answer" in run("stats")[0]
    assert doctor() == ({"redis-unreachable"}, 1)


@pytest.mark.usefixtures("redis")
def test_the_doctor_finds_nothing_wrong_where_nothing_is() -> None:
    beat("a", "key")
    open_sessions([Opened(state={"a": 1}), Opened(kind="handle", label="basket", name="basket-1")])
    with mock.patch.object(findings, "SLOW_SECONDS", 10):
        assert run("doctor") == ("Nothing is wrong that can be seen from here.\n", 0)


def test_a_full_redis_is_looked_at_also_after_all_sessions_were_ended(
    redis: Any, admin_client: Client
) -> None:
    """It refuses what is written. Whoever asks for the moment before which no session counts writes nothing."""
    end_all_before_now("default", by="ada")
    [session] = open_sessions([Opened()])
    beat("a", "key")
    redis.config_set("maxmemory", 1)
    try:
        for page in ("", "overview/", "now/", "processes/", f"{session.fingerprint}/change/"):
            assert admin_client.get(LIST + page).status_code == 200, page
        assert doctor() == ({"redis-full"}, 1)
    finally:
        redis.config_set("maxmemory", 0)


def test_the_doctor_finds_each_planted_fault_and_says_the_cure(redis: Any) -> None:
    [session] = open_sessions([Opened(state={"a": 1})])
    beat("a", "key")
    assert doctor()[0] == set()

    redis.config_set("maxmemory-policy", "allkeys-lru")
    assert doctor() == ({"redis-policy"}, 1)
    assert "Set maxmemory-policy to noeviction." in run("doctor")[0]
    redis.config_set("maxmemory-policy", "noeviction")

    redis.config_set("appendonly", "no")
    redis.config_set("save", "")
    assert doctor() == ({"redis-not-persistent"}, 1)
    redis.config_set("save", "60 1")
    assert doctor() == ({"redis-snapshots-only"}, 1)
    redis.config_set("save", "")
    redis.config_set("appendonly", "yes")

    with mock.patch.object(time, "time", return_value=time.time() - 60):
        assert doctor() == ({"clock-skew"}, 1)
        assert re.search(r"[67]\d s behind that of Redis", run("doctor")[0])

    beat("b", "another key")
    assert doctor() == ({"mixed-keys"}, 1)
    assert "SECRET_KEY_FALLBACKS" in run("doctor")[0]
    sync_store_for("default").run(nodes.leave("b"))

    [record] = [key for key in redis.keys("*:session") if session.fingerprint.encode() in key]
    kept = redis.dump(record)
    redis.delete(record)
    assert doctor() == ({"orphaned-keys"}, 1)
    redis.restore(record, 60_000, kept)

    redis.set(record.replace(b":session", b":features"), "x")
    redis.persist(record)
    assert doctor() == ({"keys-without-ttl"}, 1)
    redis.pexpire(record, 60_000)
    redis.delete(record.replace(b":session", b":features"))
    assert doctor()[0] == set()


def test_records_that_end_while_the_doctor_looks_leave_no_orphans(redis: Any) -> None:
    beat("a", "key")
    ended = open_sessions([Opened(state={"a": 1})])[0].fingerprint
    look_at = leftovers._look_at

    def late(client: Any, keys: Any, *more: Any) -> None:
        """The keys were found, and then the session ends."""
        assert any(key.endswith(f"{{{ended}}}:state") for key in keys)
        assert end_session("default", ended)
        look_at(client, keys, *more)

    with mock.patch.object(leftovers, "_look_at", late):
        assert doctor()[0] == set()


def test_the_doctor_names_namespaces_of_others_and_looks_at_a_bounded_number_of_keys(redis: Any) -> None:
    beat("a", "key")
    redis.set(":1:mcp:v1:{theirs}:nodes", "x", ex=60)
    redis.set(":1:mcp:v1:theirs:{" + "a" * 64 + "}:state", "x", ex=60)
    assert doctor()[0] == {"foreign-namespace"}
    out, _ = run("doctor")
    assert "2 keys in the cache 'default' are of the namespace 'theirs'" in out
    with mock.patch.object(leftovers, "MOST_KEYS", 2):
        assert "not-all-keys" in doctor()[0]


def test_the_doctor_says_what_djangos_checks_say(redis: Any, settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {"default": endpoint(NONSENSE=1)}
    out, code = run("doctor", "--json")
    assert code == 1
    assert any("NONSENSE" in each["what"] for each in json.loads(out))
