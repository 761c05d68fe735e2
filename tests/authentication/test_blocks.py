"""A principal, a client's name or an address that is blocked is refused, in both eras and on every process."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from pytest_django import Settings

from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.authentication import blocking
from mcp_sessions.authentication.blocking import Asker, Blocks
from mcp_sessions.blocks import BlockKind, active, block, unblock
from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.connections.defaults import SOCKET_TIMEOUT
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.testing import http_client, serving, url_of
from tests.support import ROOT
from tests.support.asgi import endpoint, opened
from tests.support.mcp_client import META, MODERN, RawClient, messages
from tests.support.processes import ENVIRONMENT, Process, daphnes, wait_until
from tests.support.redis import RedisServer, run_server

#: Seconds within which every process knows of a block.
BOUND = 1.0


@dataclass
class Somebody:
    """A client of both eras whom a proxy has signed in, at an address that the proxy names."""

    name: str
    address: str = "198.51.100.1"
    client: str = "a client"
    session: RawClient = field(default_factory=RawClient)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"x_forwarded_user": self.name, "x_forwarded_for": f"203.0.113.99, {self.address}"}

    def open(self, url: str) -> int:
        """Open a session; the status of the answer."""
        info = {"name": self.client, "version": "1"}
        answer = self.session.post(url, self.session.initialize_message(clientInfo=info), **self.headers)
        self.session.session_id = answer.headers.get("mcp-session-id")
        return answer.status_code

    def ping(self, url: str) -> int:
        return self.session.post(url, self.session.request("ping"), **self.headers).status_code

    def call_without_session(self, url: str, tool: str = "whoami", **arguments: Any) -> Any:
        """A call of the modern era: its status, or its result."""
        meta = META | {"io.modelcontextprotocol/clientInfo": {"name": self.client, "version": "1"}}
        call = RawClient().request("tools/call", {"name": tool, "arguments": arguments, "_meta": meta})
        more = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
        answer = RawClient().post(url, call, **self.headers, **more)
        return answer.json()["result"] if arguments else answer.status_code

    def statuses(self, *urls: str) -> set[int]:
        """What it gets in both eras: for its session, for a new one, and for a call without any."""
        again = Somebody(self.name, self.address, self.client)
        return {
            status
            for url in urls
            for status in (self.ping(url), again.open(url), self.call_without_session(url))
        }


def migrate(process: Process) -> None:
    """Make the tables in the database of a process."""
    command = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | process.environment, check=True)


def manage(url: str, *arguments: str) -> str:
    """Run a command of manage.py in a process; what it printed."""
    said = Somebody("root").call_without_session(url, "manage", arguments=list(arguments))
    assert not said.get("isError"), said
    return str(said["structuredContent"]["result"])


def principal(name: str) -> str:
    return f'oauth:[null,"{name}"]'


def environment(directory: Path, redis_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "MCP_SERVER": "tests.served.whoami.server",
        "MCP_NAMESPACE": directory.name,
        "MCP_AUTHENTICATION": "proxy",
        "MCP_REQUIRE_USER": "0",
        "MCP_TRUSTED_PROXIES": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    directory = tmp_path_factory.mktemp("blocks")
    with daphnes(2, directory, **environment(directory, redis_url=redis_server.url)) as running:
        migrate(running[0])
        yield running


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        ("principal", principal("ann"), Somebody("bob")),
        ("client", "a rude client", Somebody("ann")),
        ("address", "192.0.2.7", Somebody("ann", "192.0.2.8", "a rude client")),
        ("address", "192.0.2.0/25", Somebody("ann", "192.0.2.200", "a rude client")),
    ],
)
def test_a_block_holds_on_every_process_in_both_eras_until_it_is_lifted(
    a: str, b: str, kind: str, value: str, other: Somebody
) -> None:
    blocked = Somebody("ann", "192.0.2.7", "a rude client")
    for somebody in (blocked, other):
        assert somebody.open(a) == 200
        assert somebody.statuses(a, b) == {200}
    said = manage(a, "mcp_sessions", "block", kind, value, "--reason", "rude", "--for", "2h")
    begun = time.monotonic()
    wait_until(lambda: blocked.statuses(a, b) == {403}, seconds=BOUND, what="a block")
    assert time.monotonic() - begun < BOUND
    assert other.statuses(a, b) == {200}
    number = said.partition(":")[0]
    assert f"{number} " in manage(b, "mcp_sessions", "blocks")
    manage(b, "mcp_sessions", "unblock", number)
    wait_until(lambda: blocked.statuses(a, b) == {200}, seconds=BOUND, what="the end of a block")
    assert f"{number} " not in manage(b, "mcp_sessions", "blocks")


@pytest.mark.parametrize("kind", ["principal", "client", "address"])
def test_what_is_open_ends_when_its_client_is_blocked(a: str, b: str, kind: str) -> None:
    ann = Somebody(f"ann-{kind}", "192.0.2.30", f"listens-{kind}")
    assert ann.open(a) == 200
    meta = META | {"io.modelcontextprotocol/clientInfo": {"name": ann.client, "version": "1"}}
    listen = RawClient().request(
        "subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": meta}
    )
    more = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    value = {"principal": principal(ann.name), "client": ann.client, "address": ann.address}[kind]
    with (
        ann.session.get(b, **ann.headers) as stream,
        RawClient().stream(a, listen, **ann.headers, **more) as listener,
    ):
        heard = messages(listener)
        assert next(heard)["method"] == "notifications/subscriptions/acknowledged"
        number = manage(a, "mcp_sessions", "block", kind, value).partition(":")[0]
        begun = time.monotonic()
        stream.read()
        assert list(heard)[-1]["id"] == listen["id"], "it ends with its result"
        assert time.monotonic() - begun < 2 * BOUND
    manage(a, "mcp_sessions", "unblock", number)


def test_a_block_ends_by_itself(a: str, b: str) -> None:
    ann = Somebody("ann-for-a-moment")
    assert ann.open(a) == 200
    manage(a, "mcp_sessions", "block", "principal", principal(ann.name), "--for", _in_seconds(3))
    wait_until(lambda: ann.statuses(a, b) == {403}, seconds=BOUND, what="a block")
    wait_until(lambda: ann.statuses(a, b) == {200}, seconds=4, what="the end of a block")


def _in_seconds(seconds: float) -> str:
    """A moment as the shell takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + seconds))


def test_blocks_hold_while_the_store_and_the_database_are_away_and_after_a_restart(tmp_path: Path) -> None:
    ann, bob, database = Somebody("ann"), Somebody("bob"), tmp_path / "db.sqlite3"
    with run_server() as redis:
        more = {"MCP_ON_STORE_DOWN": "serve", **environment(tmp_path, redis.url)}
        with daphnes(1, tmp_path, **more) as [process]:
            migrate(process)
            assert ann.open(process.url) == bob.open(process.url) == 200
            manage(process.url, "mcp_sessions", "block", "principal", principal("ann"))
            wait_until(lambda: ann.ping(process.url) == 403, seconds=BOUND, what="a block")
            redis.kill()
            kept = database.read_bytes()
            database.write_bytes(b"no database")
            assert ann.statuses(process.url) == {403}
            assert bob.ping(process.url) == 200
            database.write_bytes(kept)
            process.restart()
            assert ann.statuses(process.url) == {403}, "from the first request on, without the store"
            assert bob.ping(process.url) == 200


async def test_what_was_read_holds_while_the_database_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, ann = Blocks("default"), Asker(principal("ann"))
    monkeypatch.setattr(blocking, "_active", lambda _: [("principal", principal("ann"), inf)])
    await blocks.load()
    assert blocks.refuse(ann)
    assert not blocks.due

    def fail(_: str) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(blocking, "_active", fail)
    await blocks.load()
    assert blocks.refuse(ann)
    assert [blocks.due] == [True], "the next heartbeat tries again"
    monkeypatch.setattr(blocking, "_active", lambda _: [])
    await blocks.load()
    assert not blocks.refuse(ann)
    assert not blocks.any


def test_a_block_of_which_no_process_was_told_is_noticed_within_half_a_minute() -> None:
    """They are read with a heartbeat, and the one before may have waited for a store that hangs."""
    assert blocking.REREAD_SECONDS + HEARTBEAT_SECONDS + 2 * SOCKET_TIMEOUT <= 30


async def test_a_stream_that_is_being_opened_when_its_client_is_blocked_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks, found = blocking.blocks_of("default"), [("client", "raw-client", inf)]
    monkeypatch.setattr(blocking, "_active", lambda _: [])

    async def take_over(open_streams: OpenStreams, *about: Any, **more: Any) -> Any:
        reader = await taking_over(open_streams, *about, **more)
        monkeypatch.setattr(blocking, "_active", lambda _: found)
        await blocks.load()
        return reader

    taking_over = OpenStreams.take_over
    monkeypatch.setattr(OpenStreams, "take_over", take_over)
    with endpoint():
        async with serving(), http_client() as http, asyncio.timeout(5):
            client = await opened(http)
            headers = client.headers(accept="text/event-stream", content_type=None)
            try:
                answer = await http.get(url_of(), headers=headers)
            finally:
                found.clear()
                await blocks.load()
    assert answer.status_code == 200
    assert answer.text.strip(":\n").startswith("retry:")


async def test_what_was_read_later_stays_also_if_an_earlier_read_takes_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each event loop of a process reads them."""
    blocks, began, may_end = Blocks("default"), threading.Event(), threading.Event()

    def read_slowly(_: str) -> list[tuple[str, str, float]]:
        began.set()
        assert may_end.wait(5)
        return []

    monkeypatch.setattr(blocking, "_active", read_slowly)
    elsewhere = threading.Thread(target=lambda: asyncio.run(blocks.load()))
    elsewhere.start()
    assert await asyncio.to_thread(began.wait, 5)
    monkeypatch.setattr(blocking, "_active", lambda _: [("principal", principal("ann"), inf)])
    await blocks.load()
    may_end.set()
    await asyncio.to_thread(elsewhere.join, 5)
    assert blocks.refuse(Asker(principal("ann")))


async def test_many_who_are_told_at_once_share_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, reads = Blocks("default"), list[str]()

    def read(alias: str) -> list[tuple[str, str, float]]:
        reads.append(alias)
        return []

    monkeypatch.setattr(blocking, "_active", read)
    await asyncio.gather(*(blocks.load() for _ in range(100)))
    assert len(reads) <= 2


@pytest.mark.django_db(transaction=True)
async def test_blocks_hold_beside_one_that_names_no_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Something else than this app has written it. A process that did not read the others would serve everybody."""
    blocks = Blocks("default")
    found = [("address", "home", inf), ("address", "::ffff:192.0.2.0/120", inf), ("client", "rude", inf)]
    monkeypatch.setattr(blocking, "_active", lambda _: found)
    await blocks.load()
    assert blocks.known
    assert blocks.refuse(Asker(client="rude"))
    assert blocks.refuse(Asker(address="192.0.2.7"))
    assert blocks.refuse(Asker(address="::ffff:192.0.2.7"))
    assert not blocks.refuse(Asker(address="192.0.3.7"))
    assert "'home'" in caplog.text


NAMES = "A block names one of principal, client, address, and its value."


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("principal", "", NAMES),
        ("x", "y", NAMES),
        ("address", "  ", NAMES),
        (
            "principal",
            "anonymous",
            "Everybody without credentials is anonymous. REQUIRE_USER refuses all of them.",
        ),
        ("address", "home", "home is no IP address, and no network such as 192.0.2.0/24."),
        ("address", "192.0.2.7/24", "192.0.2.7/24 is no IP address, and no network such as 192.0.2.0/24."),
    ],
)
def test_what_cannot_be_blocked_is_refused(kind: BlockKind, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        block(kind, value, duration=None)


@pytest.mark.django_db
def test_acts_are_in_the_audit_and_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    made = block("client", "rude", duration=None, reason="it is", by="ann")
    assert str(made) in [str(each) for each in active()]
    assert unblock([made], by="bob") == 1
    assert unblock([made], by="bob") == 0
    acts = AuditEntry.objects.order_by("pk").values_list("action", "by", "client", "reason")
    assert list(acts) == [("block", "ann", "rude", "it is"), ("unblock", "bob", "rude", "")]
    assert active() == []
    short = block("principal", "user:7", duration=timedelta(hours=1))
    assert short.expires is not None
    assert [record.getMessage() for record in caplog.records if record.name.startswith("mcp_sessions")] == [
        "Blocked client 'rude' until it is lifted, by 'ann': it is",
        "Lifted the block of client 'rude', by 'bob'.",
        f"Blocked principal 'user:7' until {short.expires.isoformat()}, by 'code': ",
    ]
