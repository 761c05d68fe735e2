"""What pipelines need of a Redis and of the connections to it; and a Cluster as that."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio.cluster import RedisCluster

from mcp_sessions.store.clients import REDIS_ERRORS
from mcp_sessions.store.drivers.round_trips import NoReply

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


class ClusterServer:
    """A whole Cluster, through redis-py's pipelines, which know the nodes and follow redirections."""

    together = False

    def __init__(self, client: RedisCluster) -> None:
        self.name = ", ".join(node.name for node in client.nodes_manager.startup_nodes.values())
        self.seconds: float = client.connection_kwargs["socket_timeout"] or NO_LIMIT
        self._client = client

    def connection(self) -> "ClusterPipelines":
        return ClusterPipelines(self._client)

    async def probe(self) -> None:
        """One node that hangs must not keep calls from the others: every doubt proves wrong."""

    def renew(self) -> None:
        """The nodes have connections of their own."""


class ClusterPipelines:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            return [NoReply(error, sent=True)] * len(commands)
        return replies

    async def release(self) -> None:
        """Nothing is held."""
