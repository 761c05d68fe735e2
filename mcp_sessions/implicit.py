"""Records that nobody opens: they are made on the first write to their state."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions import counting
from mcp_sessions.conf import Limits
from mcp_sessions.errors import SessionGone, StateError, TooManySessions
from mcp_sessions.records import Handshake
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.drivers import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a write is tried when its record ends in the middle.
_ATTEMPTS: Final = 3
#: What calls that do not write find where there is no record yet, as replies of their scripts.
_NOTHING: Final[Mapping[Script, Callable[[Call[Any]], list[Any]]]] = {
    state.GET: lambda call: [[None] * len(call.arguments)],
    state.DELETE: lambda _: [0],
}

_refused: Final = Repeats(logger, "Users and conversations that were refused at a cap")


class _NoRoom(StateError, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client."""


class ImplicitRecord:
    """Runs calls on the state of a record, each of which slides its lifetime: `state.Runs`."""

    def __init__(
        self,
        store: Store,
        fingerprint: str,
        *,
        principal: str,
        alias: str,
        limits: Limits,
        handshake: Callable[[], Handshake],
    ) -> None:
        """`handshake` makes what is stored with the record when it is made."""
        self._store = store
        self._fingerprint = fingerprint
        self._principal = principal
        self._alias = alias
        self._limits = limits
        self._handshake = handshake

    async def run(self, work: Call[T], /) -> T:
        """The result of a call on the state. Raises: StateError at a cap; StoreUnavailable; what the call says."""
        touch = sessions.touch(self._fingerprint, principal=self._principal, limits=self._limits)
        for _ in range(_ATTEMPTS):
            try:
                _, result = await self._store.run_all([touch, work])
            except SessionGone:
                if work.script in _NOTHING:
                    return work.decode(work.home, _NOTHING[work.script](work))
                await self._create()
            else:
                found: T = result
                return found
        raise SessionGone("the record ends as often as it is made")

    async def _create(self) -> None:
        """Make the record, unless another process was faster."""
        create = sessions.create(
            self._fingerprint,
            principal=self._principal,
            handshake=self._handshake(),
            limits=self._limits,
            again=True,
        )
        try:
            await self._store.run(create)
        except TooManySessions as error:
            _refused.add("Refused to remember more of a %s: %s", self._handshake().kind, error)
            counting.count_limited(self._alias, error.setting)
            raise _NoRoom("There is no room to remember more at the moment. Try again later.") from None
        except ValueError:
            """It exists: another process was faster."""
