"""The pipelines to one Redis server, which may be the primary that Sentinels name, or a node of a Cluster."""

from mcp_sessions.connections.breaker import PAUSE, Breaker
from mcp_sessions.connections.defaults import log
from mcp_sessions.connections.pipelines import IN_FLIGHT, Pipeline
from mcp_sessions.connections.server import Server
from mcp_sessions.repeats import Repeats


class Pipelines:
    """The pipelines to one Redis, by name, and what they know about it together."""

    def __init__(self, server: Server) -> None:
        self.breaker = Breaker(
            server.probe, seconds=max(server.seconds, PAUSE), opened=self._give_up, answered=server.renew
        )
        self.name = server.name
        self.outage = Repeats(log, f"Calls that failed on Redis at {self.name}")
        self.by_name = {name: self._make(server, name) for name in IN_FLIGHT}

    async def aclose(self) -> None:
        """Wait for everything that was submitted, as long as it may take."""
        for pipeline in self.by_name.values():
            await pipeline.drain()
        await self.breaker.aclose()
        self.outage.end()

    def _make(self, server: Server, name: str) -> "Pipeline":
        return Pipeline(server, self.breaker, in_flight=IN_FLIGHT[name])

    def _give_up(self) -> None:
        for pipeline in self.by_name.values():
            pipeline.give_up()
