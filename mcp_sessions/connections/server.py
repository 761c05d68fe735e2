"""What pipelines need of a Redis and of the connections to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from mcp_sessions.connections.topology import ClusterNodes

#: A standalone Redis or the primary behind Sentinels, or a Cluster.
AsyncClient = Redis | ClusterNodes

#: Seconds that calls may take where SOCKET_TIMEOUT is None: for ever, nearly.
NO_LIMIT: Final = 86_400.0


class Connection(Protocol):
    """Carries one pipeline after the other. It may be cancelled at any moment, and is usable afterwards."""

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The reply of each command; in the place of a reply an error reply, or `NoReply`."""
        ...

    async def release(self) -> None:
        """Give back what it holds; the next pipeline takes it again."""
        ...


class Server(Protocol):
    """A Redis as the pipelines to it see it."""

    #: For the log: where it is.
    name: str
    #: Seconds that a call may take from its submission.
    seconds: float
    #: Whether all keys are in one place.
    together: bool

    def connection(self) -> Connection:
        """A connection for one pipeline at a time; nothing connects yet."""
        ...

    async def probe(self) -> None:
        """Wait for any answer, on a connection of its own. Raises: one of `clients.REDIS_ERRORS`."""
        ...

    def renew(self) -> None:
        """Use no connection again that is idle now."""
        ...


@dataclass(slots=True, eq=False)
class Taken:
    """A connection outside of its pool."""

    connection: Any
    #: Until when it may be kept, by the monotonic clock.
    until: float
    #: How often the connections to its server had been renewed when it was opened.
    renewals: int


def name_of(pool: Any) -> str:
    """Where a pool's server is: a service of Sentinels, a path, or host and port."""
    options = pool.connection_kwargs
    service: str | None = getattr(pool, "service_name", None) or options.get("path")
    return service or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
