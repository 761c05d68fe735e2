"""Finds what is over, and has it ended: with each heartbeat, and by one node for each shard of the indexes."""

import asyncio
import secrets
from typing import Final

from mcp_sessions.cluster.node import Node
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import SIGNALLED, end_over, forget
from mcp_sessions.store import keys
from mcp_sessions.store.calls import endings, sweeps
from mcp_sessions.store.calls.endings import Ending

#: Records of each kind that one heartbeat sweeps from a shard at most, and seconds between two batches of them, in
#: which requests are answered.
MOST_SWEPT: Final = 20_000
PAUSE_SECONDS: Final = 0.005


async def sweep(node: Node, alias: str) -> None:
    """With each heartbeat: end what is over, drop it from the indexes, and signal the ends. Raises: StoreUnavailable.

    Of several nodes one does that for a shard of the indexes. If it dies in the middle, others finish it.
    """
    for home in keys.homes(endpoint(alias).limits.shards):
        for _ in range(MOST_SWEPT // sweeps.BATCH):
            found = await node.store.run(sweeps.over(home, node=node.id))
            if found is None or not await _sweep_some(node, alias, home, found):
                break
            await asyncio.sleep(PAUSE_SECONDS)


async def _sweep_some(node: Node, alias: str, home: str, found: sweeps.Over) -> bool:
    """Sweep what was found of a shard; whether there may be more that can be swept now. Raises: StoreUnavailable."""
    complete = True
    for kind, fingerprints in found.fingerprints.items():
        token = secrets.token_hex(8)
        if kind in SIGNALLED:
            begun = Ending(token=token, fingerprints=fingerprints, reason="over", by="")
            await node.store.run(endings.begin(begun))
        swept = await end_over(node, alias, fingerprints, token=token)
        if swept.lost:
            if kind == "session":
                await forget(node, swept.lost)
            await node.store.run(sweeps.drop(swept.lost, home=home, kind=kind, now_ms=found.now_ms))
        complete = complete and swept.complete
    return complete and any(len(some) == sweeps.BATCH for some in found.fingerprints.values())
