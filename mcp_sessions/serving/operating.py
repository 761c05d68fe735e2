"""What operators ask of this process: to cancel a request, and to take on nothing new."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from mcp_sessions import lifecycle
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.modern import ModernExchange
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: Seconds that a cancelled handler may take to end before its request is answered without it: a thread takes as long as
#: it likes.
CANCEL_SECONDS: Final = 1.0


class Operating:
    """For one endpoint. Both methods are called in the event loop."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        modern: Iterable[ModernExchange],
        listen_no_more: Callable[[], None],
    ) -> None:
        self._context = context
        self._admission = admission
        self._modern = modern
        self._listen_no_more = listen_no_more

    def cancel(self, number: int, by: str) -> None:
        """Cancel the request with this number, if it still runs. Its client gets the error of a cancelled request."""
        for exchange in (*self._admission, *self._modern):
            if exchange.number == number and exchange.response is None:
                what = exchange.begun
                logger.warning(
                    "%s of %.12s was cancelled by %s.", ascii(what.call), what.fingerprint, ascii(by)
                )
                if isinstance(exchange, ModernExchange):
                    self._context.spawn(exchange.cancel())
                else:
                    exchange.cancel()
                    asyncio.get_running_loop().call_later(CANCEL_SECONDS, _answer, exchange)

    def drain(self, *, drains: bool, by: str) -> None:
        """Take on nothing new, and close the streams that never end by themselves; or be an ordinary process again.

        All of the process, also its endpoints whose stores are away, and so could not be asked.
        """
        if drains != lifecycle.is_draining():
            words = "is drained" if drains else "is no longer drained"
            logger.warning("This process %s, by %s.", words, ascii(by))
        lifecycle.take_on_nothing(drains)
        if drains:
            self._listen_no_more()


def _answer(exchange: Exchange) -> None:
    exchange.respond(exchange.interrupted())
