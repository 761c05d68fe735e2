"""A command that is killed while it ends many sessions: a node ends the rest, and every end is recorded once."""

import asyncio
import re
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

ENDED: Final = 300
#: Others, which go on.
KEPT: Final = 3
#: Seconds until a node has finished, which takes over after three.
BOUND: Final = 30
#: What the log says of each end: the record for operators, and that receivers of the signal got it.
ENDS: Final = r"Session (\w{12}) ended: expired_by_operator, by 'shell'\."
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


async def test_what_a_killed_command_began_to_end_is_finished_and_recorded(
    service: Service, redis_server: RedisServer, tmp_path: Path
) -> None:
    opened = await asyncio.to_thread(open_sessions, [Opened() for _ in range(ENDED + KEPT + 1)])
    first, *ending = [each.fingerprint for each in opened[: ENDED + 1]]
    kept = [each.fingerprint for each in opened[ENDED + 1 :]]
    # Redis knows the scripts from here on: a script that it does not know runs when it is sent again, with its text.
    await asyncio.to_thread(end_sessions, "default", [first])
    async with holding(redis_server) as proxy:
        environment = service.processes[0].environment | {"REDIS_URL": proxy.url}
        with (tmp_path / "command.log").open("wb") as log:
            command = await asyncio.create_subprocess_exec(
                *(sys.executable, "manage.py", "mcp_sessions", "expire", *ending),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            async with asyncio.timeout(BOUND):
                await proxy.holds.wait()
                await asyncio.to_thread(wait_until, lambda: service.redis.count_of(ending) < ENDED)
                command.kill()
                await command.wait()
    assert 0 < service.redis.count_of(ending) < ENDED, "killed in the middle"
    assert said(service, ENDS) == []

    await asyncio.to_thread(
        wait_until, lambda: not service.redis.endings(), seconds=BOUND, what="a node to finish"
    )
    assert (service.redis.count_of(ending), service.redis.count_of(kept)) == (0, KEPT)
    assert sorted(said(service, ENDS)) == sorted(each[:12] for each in ending)
    assert sorted(said(service, SIGNALS)) == sorted(ending)
    assert "ended" not in (tmp_path / "command.log").read_text()
