"""The primary that Sentinels name, for the connections of any thread.

Threads that come and go have no time to listen: whoever takes a connection asks, unless somebody just did.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from redis.exceptions import RedisError
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelConnectionPoolProxy,
)

from mcp_sessions.connections.sentinel import LOOK, Address, Named, named, newest

#: Seconds for which an answer counts.
FRESH: Final = 0.25
#: Seconds for which a Sentinel that failed is not asked again, while others answer.
REST: Final = 5.0
#: Seconds that a failover may take before the primary of before is used again.
LONGEST_FAILOVER: Final = 1.5
#: Nobody sets it.
_never: Final = threading.Event()


class SyncPrimaryPool(SentinelConnectionPool):
    """Connections to the primary of a service; those to a former primary are closed before another is taken."""

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call] # redis-py's own
        self.proxy = self.connection_kwargs["connection_pool"] = _Proxy(  # type: ignore[no-untyped-call] # likewise
            connection_pool=self,
            is_master=self.is_master,
            check_connection=self.check_connection,
            service_name=service_name,
            sentinel_manager=sentinel_manager,
        )
        self._looking = threading.Lock()
        self._looked_at = -FRESH
        self._known: Named | None = None
        self._learned_at = 0.0
        #: When Sentinels failed, by their place.
        self._failed: dict[int, float] = {}

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        self.primary()
        return super().get_connection()

    def primary(self) -> Address:
        """Where the primary is; waits while one is being replaced. Raises: MasterNotFoundError."""
        with self._looking:
            if time.monotonic() - self._looked_at > FRESH:
                self._look()
            if self._known is None:
                raise MasterNotFoundError(f"No Sentinel knows {self.service_name!r}.")
            return self._known.address

    def _look(self) -> None:
        """While no Sentinel answers, what was known counts."""
        until = time.monotonic() + LONGEST_FAILOVER
        while True:
            answers = list(self._answers())
            if not any(answer.is_failing_over for answer in answers) or time.monotonic() > until:
                break
            _never.wait(LOOK)
        self._looked_at = now = time.monotonic()
        asked = len(self.sentinel_manager.sentinels)
        best = newest(answers, known=self._known, since=now - self._learned_at, asked=asked)
        if best is None:
            return
        before, self._known = self._known, best
        if before is None or before.epoch != best.epoch:
            self._learned_at = now
        if before is not None and before.address != best.address:
            self.disconnect(inuse_connections=True)

    def _answers(self) -> Iterator[Named]:
        """What the Sentinels say; those that hang are left out for a while."""
        now = time.monotonic()
        sentinels = list(enumerate(self.sentinel_manager.sentinels))
        resting = [n for n, _ in sentinels if now - self._failed.get(n, -REST) < REST]
        for n, sentinel in sentinels:
            if n in resting and len(resting) < len(sentinels):
                continue
            try:
                yield named(sentinel.execute_command("SENTINEL MASTER", self.service_name))
            except (RedisError, OSError):
                self._failed[n] = time.monotonic()


class _Proxy(SentinelConnectionPoolProxy):
    """What redis-py's connections ask where to connect."""

    def get_master_address(self) -> Address:
        pool: Any = self.connection_pool_ref()
        address: Address = pool.primary()
        self.master_address = address
        return address
