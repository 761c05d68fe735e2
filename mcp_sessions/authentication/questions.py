"""What requests ask the database about credentials: one question at a time in each event loop, for all that wait.

Nothing is remembered. Requests that arrive while the database is being asked wait, and share the next question. So each
is answered by what the database had after it arrived, and many requests cost few questions.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from mcp_sessions.authentication.identity import Identity
from mcp_sessions.authentication.threads import MOST_WAITING, SECONDS, in_thread
from mcp_sessions.errors import AuthenticationUnavailable

T = TypeVar("T")

#: Credentials that are asked for together.
TOGETHER: Final = 500

#: The credentials that are good, by their digests. Called in a thread.
Find = Callable[[list[str]], Mapping[str, T]]
#: Told what was found, in the event loop, once those who asked have their answers.
Answered = Callable[[Collection[T]], None]


class Questions(Generic[T]):
    """Finds credentials by their digests."""

    def __init__(self, find: Find[T], answered: Answered[T] = lambda _: None) -> None:
        self._find = find
        self._answered = answered
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[T]] = WeakKeyDictionary()

    async def ask(self, digest: str) -> T | None:
        """The credentials with this digest, if they are good. Raises: AuthenticationUnavailable."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._find, self._answered)
        return await queue.ask(digest)


async def still_good(
    identities: Collection[Identity], find: Callable[[list[int]], Collection[int]]
) -> list[Identity]:
    """The identities whose keys are among the good ones, which `find` gives in a thread. Raises: as `ask`."""
    keys = list({each.key for each in identities})
    good: set[int] = set()
    for start in range(0, len(keys), TOGETHER):
        good.update(await in_thread(partial(find, keys[start : start + TOGETHER])))
    return [each for each in identities if each.key in good]


class _Queue(Generic[T]):
    """What one event loop asks."""

    def __init__(self, find: Find[T], answered: Answered[T]) -> None:
        self._find = find
        self._answered = answered
        self._waiting: dict[str, list[asyncio.Future[T | None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, digest: str) -> T | None:
        if len(self._waiting) >= MOST_WAITING:
            raise AuthenticationUnavailable("too many credentials wait to be looked up")
        answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(digest, []).append(answer)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all())
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        except TimeoutError:
            raise AuthenticationUnavailable("the database does not answer") from None

    async def _ask_for_all(self) -> None:
        try:
            while self._waiting:
                digests = list(self._waiting)[:TOGETHER]
                answers = {digest: self._waiting.pop(digest) for digest in digests}
                await self._ask_for(answers)
        finally:
            self._asking = None

    async def _ask_for(self, answers: Mapping[str, list["asyncio.Future[T | None]"]]) -> None:
        found: Mapping[str, T] = {}
        failure: Exception | None = None
        try:
            found = await in_thread(partial(self._find, list(answers)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            failure = error
        for digest, futures in answers.items():
            for future in futures:
                if future.done():
                    continue  # nobody waits any more
                if failure is not None:
                    future.set_exception(failure)
                else:
                    future.set_result(found.get(digest))
        self._answered(found.values())
