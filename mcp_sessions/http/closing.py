"""The request that ends a session."""

import asyncio
from typing import Final

from mcp_sessions.ending import aend_session
from mcp_sessions.serving.runtime import Runtime

#: Seconds that the answer waits for slow readers of the session's streams.
CLOSE_SECONDS: Final = 1.0


async def end(runtime: Runtime, digest: str, principal: str) -> bool:
    """Session Management, rule 5: a client ends its session. False if it has no such session.

    When this returns, the session's GET streams in this process are closed: a client that has its answer need not ask
    itself what still comes on them.
    """
    streams = [reader.event_stream for reader in runtime.open_streams.of(digest)]
    node, alias = runtime.context.node, runtime.context.conf().alias
    ended = await aend_session(
        node, alias, digest, reason="deleted", by=principal, principal=principal, spawn=runtime.spawn
    )
    if ended is None:
        return False
    if streams:
        await asyncio.wait([stream.gone() for stream in streams], timeout=CLOSE_SECONDS)
    return True
