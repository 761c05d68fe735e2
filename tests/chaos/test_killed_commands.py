"""A command that is killed while it ends many sessions: a node ends the rest of its batch, another command goes on, and
every end is recorded once.
"""

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from django.conf import LazySettings

from mcp_sessions.ending import end_sessions
from tests.chaos.harness import Service, join_from_outside, serving
from tests.support import ROOT
from tests.support.lossy import LossyProxy
from tests.support.mcp_client import RawClient
from tests.support.processes import HOST, wait_until
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.slow

ENDED: Final = 500
#: Others, which go on.
KEPT: Final = 3
#: Seconds until a node has finished, which takes over after three. Commands may take four times as long to start.
BOUND: Final = 30
#: What the log says of each end: the record for operators, and that receivers of the signal got it.
ENDS: Final = r"Session (\w{12}) ended: expired_by_operator, by 'shell:\w+': 'a leak'\."
SIGNALS: Final = r"signal: session (\w{64}) ended: expired_by_operator"


class Holding(LossyProxy):
    """Hands on what begins an ending and a part of the ends, and holds the rest."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server)
        self.holds = asyncio.Event()
        #: Bytes of requests that still pass; None before the ending begins.
        self._left: int | None = None

    async def _hand_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool = False
    ) -> None:
        if replies:
            return await super()._hand_on(source, sink, replies=True)
        with suppress(ConnectionError):
            while chunk := await source.read(16_384):
                passing = chunk if self._left is None else chunk[: self._left]
                sink.write(passing)
                await sink.drain()
                if self._left is not None:
                    self._left -= len(passing)
                elif b":endings" in chunk:
                    self._left = 64_000
                if self._left == 0:
                    self.holds.set()


@asynccontextmanager
async def holding(server: RedisServer) -> AsyncIterator[Holding]:
    proxy = Holding(server)
    async with await asyncio.start_server(proxy.accept, HOST, 0) as listening:
        proxy.url = f"redis://{HOST}:{listening.sockets[0].getsockname()[1]}/0"
        yield proxy
        await proxy.aclose()


@pytest.fixture
def service(redis_server: RedisServer, tmp_path: Path, settings: LazySettings) -> Iterator[Service]:
    """Two nodes, which take an ending over after three seconds."""
    options = {"MCP_SERVER": "tests.served.impatient.server", "MCP_MAX_SESSIONS_PER_PRINCIPAL": "1000"}
    with serving(tmp_path, redis_server, 2, draining=False, **options) as service:
        join_from_outside(settings, service)
        settings.MCP_SESSIONS["default"]["MAX_SESSIONS_PER_PRINCIPAL"] = 1000
        for url in service.urls:  # a node begins with its first request
            RawClient().initialize(url)
        yield service


def said(service: Service, what: str) -> list[str]:
    """What the processes logged of that form."""
    return [each for process in service.processes for each in re.findall(what, process.log.read_text())]


def manage(service: Service, *arguments: str, **environment: str) -> str:
    """What a command of the service's project says."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=service.processes[0].environment | environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=4 * BOUND,
    ).stdout


def query(directory: Path, sql: str) -> list[tuple[str, ...]]:
    """From the service's database, to which the changes are committed."""
    with sqlite3.connect(directory / "db.sqlite3", timeout=20) as database:
        return database.execute(sql).fetchall()


async def test_what_a_killed_command_began_to_end_is_finished_and_recorded(
    service: Service, redis_server: RedisServer, tmp_path: Path
) -> None:
    await asyncio.to_thread(manage, service, "migrate", "-v0")
    opened = await asyncio.to_thread(open_sessions, [Opened(client="leaky") for _ in range(ENDED)])
    ending = [each.fingerprint for each in opened]
    kept = await asyncio.to_thread(open_sessions, [Opened() for _ in range(KEPT + 1)])
    # Redis knows the scripts from here on: a script that it does not know runs when it is sent again, with its text.
    await asyncio.to_thread(end_sessions, "default", [kept.pop().fingerprint])
    async with holding(redis_server) as proxy:
        environment = service.processes[0].environment | {"REDIS_URL": proxy.url}
        with (tmp_path / "command.log").open("wb") as log:
            command = await asyncio.create_subprocess_exec(
                *(sys.executable, "manage.py", "mcp_sessions", "expire", "--client", "leaky", "--yes"),
                *("--reason", "a leak"),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            async with asyncio.timeout(4 * BOUND):
                await proxy.holds.wait()
                await asyncio.to_thread(wait_until, lambda: service.redis.count_of(ending) < ENDED)
                command.kill()
                await command.wait()
    left = service.redis.count_of(ending)
    assert 0 < left < ENDED, "killed in the middle"
    assert said(service, ENDS) == []
    batch = query(tmp_path, "SELECT fingerprint FROM mcp_sessions_auditentry WHERE outcome = 'intended'")
    assert len(batch) > ENDED - left, "intended before they end"

    await asyncio.to_thread(
        wait_until, lambda: not service.redis.endings(), seconds=BOUND, what="a node to finish"
    )
    assert sorted(said(service, ENDS)) == sorted(fingerprint[:12] for [fingerprint] in batch)
    # A client comes back meanwhile: it is not meant.
    [back] = await asyncio.to_thread(open_sessions, [Opened(client="leaky")])

    query(tmp_path, "UPDATE mcp_sessions_endingjob SET driven_until = created")  # as if the lease were over
    out = await asyncio.to_thread(manage, service, "mcp_sessions", "jobs", "resume")
    assert f"{ENDED} ended, 0 already gone" in out
    assert service.redis.count_of(ending) == 0
    assert service.redis.count_of([back.fingerprint, *(each.fingerprint for each in kept)]) == 1 + KEPT

    entries = query(tmp_path, "SELECT fingerprint, outcome, reason FROM mcp_sessions_auditentry")
    assert sorted(entries) == sorted((each, "ended", "a leak") for each in ending)
    assert sorted([*said(service, ENDS), *re.findall(ENDS, out)]) == sorted(each[:12] for each in ending)
    assert sorted(said(service, SIGNALS)) == sorted(fingerprint for [fingerprint] in batch)
    begun = "Job 1 begins (force-expire): records of default, client 'leaky': 'a leak', by 'shell:"
    for process in service.processes:
        assert process.log.read_text().count(begun) == 1, "one line in the log of each server"
