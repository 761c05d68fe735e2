"""Round trips to Redis, as the connections of pipelines see them."""

import asyncio
from typing import Any

from mcp_sessions.connections.pipelines import PooledConnection


class Traffic:
    """Counts the pipelines that are sent, and holds them back while `gate` is closed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.under_way = self.most_under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._execute = PooledConnection.execute

    async def execute(self, connection: PooledConnection, commands: Any) -> Any:
        self.sizes.append(len(commands))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            return await self._execute(connection, commands)
        finally:
            self.under_way -= 1
