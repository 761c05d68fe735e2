"""Who uses an endpoint without a session: a record for each principal and client, written behind the requests.

A request only counts. Once a second what was counted is written; while the store is away it is dropped, because no
request may wait for it, or fail with it.
"""

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import ANONYMOUS, SHOWN_CHARS, Handshake, record_fingerprint
from mcp_sessions.sdk.envelope import client_info_of, handshake_of
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.indexes import LONGEST_MS
from mcp_sessions.store.calls.reading import CALL_LENGTH, Counted
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: Seconds from the first request that is counted until it is written.
WRITE_SECONDS: Final = 1.0
#: For how long a caller is listed after its last request.
TTL_MS: Final = 86_400_000
#: How many clients of one principal are listed.
MOST_CLIENTS: Final = 20
#: Callers that one process counts at the same time. The requests of others are not counted.
MOST_CALLERS: Final = 1_000


class _Caller(NamedTuple):
    principal: str
    client: str
    version: str


class _Requests(NamedTuple):
    """Those of one caller since the last write."""

    number: int
    #: What the first of them said of its client, as it is kept.
    handshake: Handshake
    #: The method of the last one, with the name of the tool.
    call: str


class Callers:
    """Counts the requests of one endpoint in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._counted: dict[_Caller, _Requests] = {}
        #: How many of those there are of each principal: one must not take the places of all.
        self._clients: Counter[str] = Counter()

    def count(self, principal: str, meta: Mapping[str, Any], call: str) -> None:
        """A request was accepted. `meta` is its `_meta`, and `call` its method with the name of the tool."""
        if principal == ANONYMOUS or not self._context.store.shared or not self._context.conf().inventory:
            return
        info = client_info_of(meta)
        caller = _Caller(
            principal, str(info.get("name", ""))[:SHOWN_CHARS], str(info.get("version", ""))[:SHOWN_CHARS]
        )
        known = self._counted.get(caller)
        if known is not None:
            handshake = known.handshake
        elif len(self._counted) < MOST_CALLERS and self._clients[principal] < MOST_CLIENTS:
            self._clients[principal] += 1
            # Not the `_meta` itself, which may be large and would stay until it is written.
            handshake = handshake_of(meta).for_record("caller", capable=True)
        else:
            return
        if not self._counted:
            # In a context of its own: that of the request has the whole request in it.
            asyncio.get_running_loop().call_later(WRITE_SECONDS, self._due, context=contextvars.Context())
        number = 1 if known is None else known.number + 1
        self._counted[caller] = _Requests(number, handshake, call[:CALL_LENGTH])

    def _due(self) -> None:
        self._context.spawn(self.write())

    async def write(self) -> None:
        """Write what was counted. What the store does not take is dropped."""
        counted, self._counted = self._counted, {}
        self._clients.clear()
        by_fingerprint = {record_fingerprint("caller", *caller): caller for caller in counted}
        limits = replace(
            self._context.conf().limits,
            idle_ms=TTL_MS,
            first_ms=TTL_MS,
            max_age_ms=LONGEST_MS,
            max_sessions=None,
            max_sessions_per_principal=MOST_CLIENTS,
        )
        counts = {
            fingerprint: Counted(counted[caller].number, counted[caller].call)
            for fingerprint, caller in by_fingerprint.items()
        }
        try:
            known = await self._context.store.run(sessions.count_requests(counts, limits=limits))
            new = {fingerprint: count for fingerprint, count in counts.items() if fingerprint not in known}
            for fingerprint in new:
                caller = by_fingerprint[fingerprint]
                await self._create(fingerprint, caller.principal, counted[caller].handshake, limits)
            if new:
                await self._context.store.run(sessions.count_requests(new, limits=limits))
        except StoreUnavailable as error:
            logger.debug("Requests of %d callers were not counted: %s", len(counted), error)

    async def _create(self, fingerprint: str, principal: str, handshake: Handshake, limits: Limits) -> None:
        create = sessions.create(
            fingerprint, principal=principal, handshake=handshake, limits=limits, again=True
        )
        try:
            await self._context.store.run(create)
        except TooManySessions:
            logger.debug("Principal %s has more than %d clients.", ascii(principal), MOST_CLIENTS)
        except ValueError:
            logger.debug("Caller %.12s was recorded by another process.", fingerprint)
