"""What this process reports of itself: what runs, what is open, and how it is. An observer.

Its report is a sign of life of its event loop, too: one that hangs reports nothing.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import mcp_sessions
from mcp_sessions import ids, lifecycle
from mcp_sessions.records import SHOWN_CHARS
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.listeners import Listeners
from mcp_sessions.serving.observing import Begun, Ended
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams

#: Seconds between two reports of a process in which nothing takes long; the others report with each observation.
REPORT_SECONDS: Final = 4.0
#: Seconds after which a call is one that takes long.
LONG_SECONDS: Final = 1.0
#: Calls, and streams, that one report names at most: calls that have run for longest, and any streams.
MOST_CALLS: Final = 200
MOST_STREAMS: Final = 500
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MEMORY: Final = Path("/proc/self/statm")


class Reports:
    """Reports for one endpoint."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        open_streams: OpenStreams,
        listeners: Listeners,
        *,
        running: Callable[[], Iterable[Begun]],
        take_lag: Callable[[], float],
        failing: Callable[[], list[str]],
    ) -> None:
        """`failing` gives the records of which requests failed lately.

        `take_lag` gives the longest that the event loop kept others waiting since the last call, in seconds."""
        self._context = context
        self._admission = admission
        self._open_streams = open_streams
        self._listeners = listeners
        self._running = running
        self._take_lag = take_lag
        self._failing = failing
        self._process, self._started = _this_process()
        self._reported = 0.0
        #: Whether the last report named a call.
        self._named = False

    def hear(self, ended: Sequence[Ended]) -> None:
        """What has ended is not reported."""

    def writes(self) -> Sequence[Call[Any]]:
        now, running = time.monotonic(), list(self._running())
        long = any(now - each.began >= LONG_SECONDS for each in running)
        if not (long or self._named) and now - self._reported < REPORT_SECONDS:
            return ()
        self._reported, self._named = now, long
        return [nodes.report(self._context.node.id, told=json.dumps(self._told(running, now)))]

    def _told(self, running: list[Begun], now: float) -> dict[str, Any]:
        now_ms = self._context.node.validity.now_ms()
        streams = [(each.session.fingerprint, each.stream.name) for each in self._streaming()]
        streams += [(each.fingerprint, each.stream) for each in self._open_streams]
        longest = sorted(running, key=lambda each: each.began)[:MOST_CALLS]
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "keys": ids.key_digests(),
            "process": self._process,
            "version": mcp_sessions.__version__,
            "started": now_ms - round((now - self._started) * 1000),
            "lag_ms": round(self._take_lag() * 1000),
            "ahead_ms": round(self._context.node.validity.ahead_ms),
            "memory": memory(),
            "draining": lifecycle.is_draining(),
            "calls": len(running),
            "streams": len(streams),
            "listeners": len(self._listeners),
            "running": [_call(each, now_ms - round((now - each.began) * 1000)) for each in longest],
            "open": streams[:MOST_STREAMS],
            "failing": self._failing(),
        }

    def _streaming(self) -> Iterator[Any]:
        """The calls whose answer is a stream that a client reads here."""
        for each in self._admission:
            if each.stream is not None and each.stream.event_stream.open:
                yield each


def _call(request: Begun, began_ms: int) -> list[Any]:
    """A call as it is reported: see `inventory.running`."""
    return [
        request.number,
        request.kind,
        request.fingerprint,
        request.call,
        request.principal,
        request.client[:SHOWN_CHARS],
        request.client_version[:SHOWN_CHARS],
        began_ms,
    ]


@cache
def _this_process() -> tuple[str, float]:
    """What tells this process from others, whatever their hosts and process ids, and when it began to serve.

    Not constants: a process may be forked after its imports.
    """
    return secrets.token_hex(8), time.monotonic()


def memory() -> int | None:
    """Bytes of memory that this process has; None where the system does not say."""
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
