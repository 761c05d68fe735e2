"""What a process must know to say which session ids count: the store's clock, and the moment before which none does."""

import time

from mcp_sessions.store.calls import validity
from mcp_sessions.store.drivers import Store


class Validity:
    """As far as this process knows, which asks with each heartbeat."""

    def __init__(self) -> None:
        #: Sessions that were opened earlier do not count, milliseconds since the epoch; 0 if all do.
        self.min_created_ms = 0
        #: By how much the store's clock is ahead of this machine's; 0 until the store was asked.
        self.ahead_ms = 0.0

    def now_ms(self) -> int:
        """The store's clock; this machine's until the store was asked."""
        return round(time.time() * 1000 + self.ahead_ms)

    def counts(self, created_ms: int, *, setting_ms: int) -> bool:
        """Whether a session counts that was opened then. `setting_ms`: as for `first_ms`."""
        return created_ms >= self.first_ms(setting_ms=setting_ms)

    def first_ms(self, *, setting_ms: int) -> int:
        """When the first session was opened that counts. `setting_ms` is MIN_CREATED, which may be in the future."""
        return max(self.min_created_ms, setting_ms) if setting_ms <= self.now_ms() else self.min_created_ms

    def raise_to(self, min_created_ms: int) -> None:
        """Another process has said that sessions no longer count that were opened earlier."""
        self.min_created_ms = max(self.min_created_ms, min_created_ms)

    async def ask(self, store: Store) -> None:
        """Ask the store, and tell it what it has lost. Raises: StoreUnavailable."""
        before = time.time()
        moment = await store.run(validity.min_created(self.min_created_ms))
        # Half of the time has passed on the way back, as far as anybody knows.
        self.ahead_ms = moment.now_ms - (before + time.time()) / 2 * 1000
        self.raise_to(moment.min_created_ms)
