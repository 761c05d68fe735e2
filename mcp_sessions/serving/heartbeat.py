"""What this process does with each heartbeat, besides saying that it is alive.

It keeps sessions and streams alive on which nothing happens, and makes up for lost notifications.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from mcp_sessions.ending import Deadlines
from mcp_sessions.serving.admission import Admission
from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.reader import StreamReader

T = TypeVar("T")
#: Sessions or streams that are looked after at once: thousands would make a burst of memory and latency.
BATCH: Final = 100
#: Seconds between two batches of streams.
PAUSE_SECONDS: Final = 0.02


async def keep_sessions(
    context: Context,
    admission: Admission,
    open_streams: OpenStreams,
    deadlines: Deadlines,
    *,
    close: Callable[[str], None],
) -> None:
    """Keep the sessions of long requests and open streams from idling out; `close` those that have ended."""
    busy = {exchange.session.fingerprint for exchange in admission if exchange.keeps_session}
    for fingerprints in _batches(sorted(busy | {reader.fingerprint for reader in open_streams})):
        alive = await context.store.run(sessions.keep(fingerprints, limits=context.conf.limits))
        for fingerprint in fingerprints:
            if fingerprint in alive:
                deadlines.watch(alive[fingerprint])
            else:
                close(fingerprint)


async def keep_streams(context: Context, admission: Admission, open_streams: OpenStreams) -> None:
    """Keep the logs of the streams that are written or delivered here."""
    written = {(e.session.fingerprint, e.stream.name) for e in admission if e.stream is not None}
    delivered = {(reader.fingerprint, reader.stream) for reader in open_streams if reader.is_current}
    for names in _batches(sorted(written | delivered)):
        await context.store.run(streams.keep(names))


async def read_again(readers: Iterable[StreamReader]) -> None:
    """Let every open stream look at its log: a notification may have been lost."""
    for batch in _batches(list(readers)):
        for reader in batch:
            reader.nudge()
        await asyncio.sleep(PAUSE_SECONDS)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[n : n + BATCH] for n in range(0, len(items), BATCH))
