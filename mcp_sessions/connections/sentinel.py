"""Connections to the primary that Sentinels name, dropped as soon as they name another.

A primary that was demoted by a planned failover goes on accepting writes for about ten seconds, until the Sentinels
reconfigure it; then it discards them. A client that only reads from the connections that it has does not notice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, Final, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError

log = logging.getLogger("mcp_sessions.store")

#: Host and port.
Address = tuple[str, int]

#: Seconds that a Sentinel may take to answer.
TIMEOUT: Final = 0.5
#: Seconds that the other Sentinels get once one has answered: a failover may be news to some of them.
GRACE: Final = 0.1
#: Seconds of silence after which a Sentinel must show that it is alive.
SILENCE: Final = 2.0
#: Seconds until one that failed is listened to again.
RECONNECT: Final = 0.5
#: Seconds that a failover may take before the primary of before is used again, and those between two looks.
LONGEST_FAILOVER: Final = 3.0
LOOK: Final = 0.05
#: Seconds after which every Sentinel that works has heard of a failover.
SETTLED: Final = 10.0

#: A replica is about to be promoted: a tenth of a second before it is. What is written from then on may be lost.
PROMOTING: Final = "+failover-state-send-slaveof-noone"
SWITCHED: Final = "+switch-master"
_ERRORS: Final = (RedisError, OSError, TimeoutError, EOFError)


class Named(NamedTuple):
    """What one Sentinel says about the service."""

    #: Grows with each failover: of two primaries that with the higher one is newer.
    epoch: int
    address: Address
    is_down: bool
    is_failing_over: bool


def named(state: Mapping[str, Any]) -> Named:
    """What a reply to SENTINEL MASTER says, as redis-py parses it."""
    flags = state["flags"]
    return Named(
        int(state["config-epoch"]),
        (state["ip"], int(state["port"])),
        is_down=bool(state["is_sdown"] or state["is_odown"]),
        is_failing_over="failover_in_progress" in flags,
    )


def newest(answers: Sequence[Named], *, known: Named | None, since: float, asked: int) -> Named | None:
    """Which answer counts: that of the highest epoch.

    One that is older than what is known, for `since` seconds, counts only if most Sentinels give it, none gives
    another, and all had time to hear of the last failover: then they were set up anew.
    """
    if not answers:
        return None
    best = max(answers, key=lambda answer: (answer.epoch, not answer.is_down))
    agreed = len({answer.address for answer in answers}) == 1 and len(answers) > asked // 2
    if known is not None and best.epoch < known.epoch and not (agreed and since > SETTLED):
        return None
    return best


class Watch:
    """Who is the primary of a service, for one event loop. `changed` is called when it is another, or soon will be."""

    def __init__(self, manager: Sentinel, service: str, changed: Callable[[], Awaitable[None]]) -> None:
        self._sentinels: Sequence[Redis] = manager.sentinels
        self._service = service
        self._changed = changed
        self._known: Named | None = None
        self._learned_at = 0.0
        self._failing_since: float | None = None
        self._listening: list[asyncio.Task[None]] = []
        self._finding: asyncio.Task[Address] | None = None

    def start(self) -> None:
        """Listen to every Sentinel from now on."""
        if not self._listening:
            create = asyncio.get_running_loop().create_task
            self._listening = [
                create(self._listen(sentinel), context=Context()) for sentinel in self._sentinels
            ]

    async def primary(self) -> Address:
        """Where the primary is; waits while one is being replaced. Raises: MasterNotFoundError."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self._find(), context=Context())
            self._finding.add_done_callback(_retrieve)
        return await asyncio.shield(self._finding)

    async def _find(self) -> Address:
        loop = asyncio.get_running_loop()
        while True:
            answers = await self._ask_all()
            since = loop.time() - self._learned_at
            best = newest(answers, known=self._known, since=since, asked=len(self._sentinels))
            if best is not None:
                await self._learn(best)
            if not any(answer.is_failing_over for answer in answers):
                self._failing_since = None
                break
            self._failing_since = self._failing_since or loop.time()
            if loop.time() > self._failing_since + LONGEST_FAILOVER:
                break
            await asyncio.sleep(LOOK)
        if not answers or self._known is None:
            raise MasterNotFoundError(f"No Sentinel knows {self._service!r}.")
        # If those that answer are behind, nobody says anything of it.
        of_it = [answer.is_down for answer in answers if answer.address == self._known.address]
        if of_it and all(of_it):
            raise MasterNotFoundError(f"The primary of {self._service!r} is down.")
        return self._known.address

    async def aclose(self) -> None:
        listening = set(self._listening)
        while listening:
            # More than once: redis-py sends with asyncio.wait_for, which up to Python 3.11 loses a cancellation that
            # comes in the moment when it is done (CPython's issue 86296).
            for task in listening:
                task.cancel()
            _, listening = await asyncio.wait(listening, timeout=RECONNECT)
        self._listening = []
        for sentinel in self._sentinels:
            await sentinel.aclose()

    async def _learn(self, answer: Named) -> None:
        before, self._known = self._known, answer
        if before is None or before.epoch != answer.epoch:
            self._learned_at = asyncio.get_running_loop().time()
        if before is not None and before.address != answer.address:
            log.info("The primary of %r is %s:%s now.", self._service, *answer.address)
            await self._changed()

    async def _listen(self, sentinel: Redis) -> None:
        """Hear what one Sentinel announces, whatever happens to it."""
        while True:
            try:
                await self._hear(sentinel)
            except _ERRORS as error:
                log.debug("A Sentinel does not answer: %s", error)
            await asyncio.sleep(RECONNECT)

    async def _hear(self, sentinel: Redis) -> None:
        """Raises: one of `_ERRORS`."""
        channel: Any = sentinel.pubsub()
        try:
            await channel.subscribe(SWITCHED, PROMOTING)
            await self._ask_again(sentinel)  # what was announced before that
            while True:
                message = await channel.get_message(timeout=SILENCE)
                if message is None:
                    await channel.ping()
                    message = await channel.get_message(timeout=TIMEOUT)
                    if message is None:
                        raise TimeoutError("A Sentinel hangs.")
                if message["type"] == "message":
                    await self._announced(
                        sentinel, message["channel"].decode(), message["data"].decode().split()
                    )
        finally:
            await channel.aclose()

    async def _announced(self, sentinel: Redis, channel: str, words: Sequence[str]) -> None:
        """An event of any service: "<service> <old> <port> <new> <port>", or "slave … @ <service> <old> <port>"."""
        if channel == SWITCHED and words[0] == self._service:
            await self._ask_again(sentinel)
        elif channel == PROMOTING and "@" in words and words[words.index("@") + 1] == self._service:
            await self._changed()

    async def _ask_again(self, sentinel: Redis) -> None:
        answer = await self._ask(sentinel)
        if self._known is None or answer.epoch > self._known.epoch:
            await self._learn(answer)

    async def _ask_all(self) -> list[Named]:
        """What the Sentinels say that answer soon."""
        asking = {asyncio.ensure_future(self._ask(sentinel)) for sentinel in self._sentinels}
        answers: list[Named] = []
        try:
            while asking:
                done, asking = await asyncio.wait(
                    asking, timeout=GRACE if answers else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                answers += [task.result() for task in done if task.exception() is None]
        finally:
            for task in asking:
                task.cancel()
        return answers

    async def _ask(self, sentinel: Redis) -> Named:
        client: Any = sentinel
        async with asyncio.timeout(TIMEOUT):
            return named(await client.execute_command("SENTINEL MASTER", self._service))


def _retrieve(finding: "asyncio.Task[Address]") -> None:
    """Whoever waited has the error; if nobody did, it is no news."""
    if not finding.cancelled():
        finding.exception()


class PrimaryConnection(SentinelManagedConnection):
    """A connection that is refused by a server that is no primary."""

    async def connect_to(self, address: Address) -> None:
        await super().connect_to(address)  # type: ignore[no-untyped-call] # redis-py's own
        await self.send_command("ROLE")
        try:
            role = (await self.read_response())[0]
        except NoPermissionError:  # then READONLY must do
            return
        if role not in (b"master", "master"):
            await self.disconnect()
            raise RedisConnectionError(f"{address[0]}:{address[1]} is not the primary.")


class PrimarySSLConnection(PrimaryConnection, SentinelManagedSSLConnection):
    """The same over TLS."""


class PrimaryPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary of a service; waits for a free one instead of failing."""

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call] # redis-py's own
        # All, since a call that is under way may be acknowledged and lost.
        self._watch = Watch(sentinel_manager, service_name, lambda: self.disconnect(inuse_connections=True))

    async def get_master_address(self) -> Address:
        self._watch.start()
        self.master_address = await self._watch.primary()
        return self.master_address

    async def aclose(self) -> None:
        """Close every connection, those to the Sentinels too, which redis-py leaves open."""
        await super().aclose()
        await self._watch.aclose()
