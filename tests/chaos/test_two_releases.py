"""Two releases beside each other on one Redis: a simulated newer one, and the one before, from the history."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from django.conf import LazySettings

from mcp_sessions.cluster.notifications import SessionsEnded, StreamChanged, encode
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from tests.chaos.harness import Service, join_from_outside, serving
from tests.support import ROOT
from tests.support.mcp_client import RawClient, connected, events, message_of, messages
from tests.support.processes import daphne, started, wait_until
from tests.support.programs import path_of
from tests.support.redis import RedisInspector, RedisServer

#: The release before this one, as long as there are no tags.
BEFORE: Final = "8324edea0da2f6f68557a6df0a481cff4849d650"
MINUTE: Final = 60_000


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes of this release."""
    with serving(tmp_path_factory.mktemp("releases"), redis_server, 2) as service:
        for url in service.urls:
            connected(url)  # from here on each is a node
        yield service


@pytest.fixture
def newer(service: Service, settings: LazySettings) -> Any:
    """The store, as a node of the next release writes to it."""
    join_from_outside(settings, service)
    return sync_store_for("default")


def said(service: Service, words: str) -> list[int]:
    """How often each process has logged these words."""
    return [process.log.read_text().count(words) for process in service.processes]


def asks_over_both(client: RawClient, service: Service, label: str) -> str:
    """Have a tool on the first process ask its client, who answers to the second: that takes a notification."""
    a, b = service.urls
    with client.stream(a, client.calling("ask", label=label)) as response:
        received = messages(response)
        question = next(received)
        result = {"action": "accept", "content": {"number": 7}}
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        assert client.post(b, reply).status_code == 202
        return str(next(received)["result"]["structuredContent"]["result"])


def test_what_a_newer_release_tells_is_skipped_and_logged_once_and_everything_goes_on(
    service: Service, newer: Any, client: RawClient
) -> None:
    moved = {"version": 1, "type": "SessionMoved", "fields": {"fingerprint": client.fingerprint}}
    later = {"version": 2, "type": "StreamChanged", "fields": {"session": client.fingerprint}}
    for _ in range(3):
        for told in (moved, later):
            newer.run(nodes.notify_all(json.dumps(told).encode()))
            newer.run(nodes.broadcast(json.dumps({**told, "name": "0011"}).encode()))
    assert asks_over_both(client, service, "after that") == "after that: 7"
    for words in ("cannot read: type 'SessionMoved'. Logged once.", "cannot read: version 2. Logged once."):
        wait_until(lambda words=words: said(service, words) == [1, 1], what=words)  # type: ignore[misc]


def test_a_notification_with_more_fields_than_this_release_knows_is_heard(
    service: Service, newer: Any, client: RawClient
) -> None:
    told = json.loads(encode(SessionsEnded(fingerprints=(client.fingerprint,))))
    told["fields"]["reason"] = "moved"
    with client.get(service.urls[0]) as listening:
        received = events(listening)
        next(received)
        newer.run(nodes.notify_all(json.dumps(told).encode()))
        assert next(received, None) is None


def test_a_node_that_tells_more_or_less_of_itself_is_listed(service: Service, newer: Any) -> None:
    for node, about in (("more", {"host": "h", "pid": 1, "zone": ["b"]}), ("less", {"release": 2})):
        newer.run(nodes.beat(node, about=json.dumps(about), forget_after_ms=MINUTE))
    try:
        assert {(each.id, each.host, each.pid) for each in nodes_of(["default"])} >= {
            ("more", "h", 1),
            ("less", "?", 0),
        }
    finally:
        for node in ("more", "less"):
            newer.run(nodes.leave(node))


def record_of(service: Service, client: RawClient) -> tuple[Any, str]:
    """A connection to Redis, and the key of the session's record."""
    environment = service.processes[0].environment
    namespace = environment["MCP_NAMESPACE"]
    return redis.Redis.from_url(
        environment["REDIS_URL"]
    ), f":1:mcp:v1:{namespace}:{{{client.fingerprint}}}:session"


def test_a_record_of_a_newer_format_is_gone_for_this_release_left_alone_and_logged_once(
    service: Service,
) -> None:
    text = b'7 {"created": 1, "principal": "anonymous"}'
    for client in (connected(service.urls[0]), connected(service.urls[1])):
        connection, key = record_of(service, client)
        with connection:
            connection.set(key, text, keepttl=True)
            for url in service.urls * 2:
                assert client.post(url, client.request("ping")).status_code == 404
            assert connection.get(key) == text
    assert said(service, "is unreadable (format b'7')") == [1, 1]


def test_flags_and_features_of_a_newer_release_are_kept_and_their_sessions_served(service: Service) -> None:
    client = connected(service.urls[0])
    connection, key = record_of(service, client)
    with connection:
        numbers, rest = connection.get(key).split(b"\n", 1)
        connection.set(key, numbers + b"fz\n" + rest, keepttl=True)
        features = key.removesuffix("session") + "features"
        connection.hset(features, mapping={"level": "debug", "quota": "7"})
        connection.pexpire(features, MINUTE)
        assert [client.value(url, "bump") for url in service.urls * 2] == [1, 2, 3, 4]
        assert b"z" in connection.get(key).split(b"\n")[0].rpartition(b"-")[2]
        assert connection.hget(features, "quota") == b"7"


def test_nothing_of_that_was_a_fault(service: Service) -> None:
    assert said(service, "Traceback") == [0, 0]


@pytest.fixture(scope="module")
def older_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    tree = tmp_path_factory.mktemp("before")
    git = [path_of("history"), "-C", str(ROOT)]
    archive = subprocess.run([*git, "archive", BEFORE], check=True, capture_output=True, timeout=60).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True, timeout=60)
    return tree


@pytest.fixture(scope="module")
def both(
    older_tree: Path, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A process of this release, and one of the release before."""
    directory = tmp_path_factory.mktemp("both")
    values = {
        "REDIS_URL": redis_server.url,
        "MCP_SERVER": "tests.served.chaos.server",
        "MCP_NAMESPACE": "both",
    }
    this, other = daphne("this", directory, **values), daphne("before", directory, **values)
    before = replace(other, directory=older_tree, forked=False)
    with ExitStack() as stack:
        stack.enter_context(started([this, before]))
        yield Service(processes=[this, before], redis=RedisInspector(redis_server, "both"))


@pytest.mark.needs("history")
def test_the_process_of_the_release_before_runs_its_own_code(both: Service, older_tree: Path) -> None:
    this, before = both.processes
    assert (this.directory, before.directory) == (ROOT, older_tree)
    assert Path(f"/proc/{before.pid}/cwd").resolve() == older_tree
    assert before.command[:3] == (sys.executable, "-m", "daphne")


@pytest.mark.needs("history")
def test_a_session_that_this_release_opened_is_served_by_both(both: Service) -> None:
    client = connected(both.urls[0])
    labels = [
        client.value(url, "count", number=0, label=str(n), pace=0) for n, url in enumerate(both.urls * 2)
    ]
    assert labels == ["0", "1", "2", "3"]
    assert asks_over_both(client, both, "asked by this release") == "asked by this release: 7"
    turned = replace(both, processes=both.processes[::-1])
    assert asks_over_both(client, turned, "asked by the one before") == "asked by the one before: 7"


@pytest.mark.needs("history")
@pytest.mark.parametrize("turned", [False, True])
def test_a_stream_of_one_release_is_resumed_on_the_other(both: Service, turned: bool) -> None:
    begins, ends = both.urls[::-1] if turned else both.urls
    client = connected(both.urls[0])
    message = client.calling("count", number=8, label="resumed", pace=0.1)
    with client.stream(begins, message) as response:
        received = events(response)
        start = next(received)
        first = message_of(next(received))
    assert first["params"]["progress"] == 1
    with client.get(ends, last_event_id=start.id) as response:
        seen = list(messages(response))
    assert [each["params"]["progress"] for each in seen[:-1]] == list(range(1, 9))
    assert seen[-1]["result"]["structuredContent"] == {"result": "resumed"}


@pytest.mark.needs("history")
@pytest.mark.parametrize("turned", [False, True])
def test_an_end_on_one_release_is_heard_by_the_other(both: Service, turned: bool) -> None:
    one, other = both.urls[::-1] if turned else both.urls
    client = connected(both.urls[0])
    with client.get(other) as listening:
        received = events(listening)
        next(received)
        assert client.delete(one).status_code == 204
        assert next(received, None) is None
    assert client.post(other, client.request("ping")).status_code == 404


@pytest.mark.needs("history")
def test_both_releases_read_what_the_other_writes(both: Service) -> None:
    for words in ("is unreadable", "Skipped a notification", "Traceback"):
        assert said(both, words) == [0, 0], words


def test_what_is_sent_has_the_form_that_the_release_before_reads() -> None:
    assert json.loads(encode(StreamChanged(fingerprint="f" * 64, stream="standalone"))) == {
        "version": 1,
        "type": "StreamChanged",
        "fields": {"fingerprint": "f" * 64, "stream": "standalone"},
    }
