"""What the SDK logs of handlers that raise: one traceback for each, and none for what is no mistake of theirs.

A log filter, because the SDK catches what a tool raises, logs it inside its own wrapper, and gives no way in between.
"""

import logging
from typing import Final

from mcp.server.mcpserver.exceptions import UnexpectedResourceError, UnexpectedToolError

from mcp_sessions.errors import SessionGone, StateTooLarge, StoreUnavailable
from mcp_sessions.repeats import Repeats

logger = logging.getLogger(__name__)

#: The SDK's loggers that log what handlers raise.
_LOGGERS: Final = ("mcp.server.mcpserver.server", "mcp.server.runner")
_WRAPPERS: Final = (UnexpectedToolError, UnexpectedResourceError)
_unavailable: Final = Repeats(logger, "Handlers that failed without the session store")


def raised(error: BaseException, *, wrappers: tuple[type[BaseException], ...] = _WRAPPERS) -> BaseException:
    """What the handler itself raised, inside the SDK's wrappers."""
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def is_expected(error: BaseException) -> bool:
    """Whether a handler failed for a reason that needs no traceback; it is logged here.

    The store is away, which is logged once for an outage. Or the session has ended, or its state is full: clients can
    cause that as often as they like.
    """
    if isinstance(error, StoreUnavailable):
        _unavailable.add("A handler failed because the session store cannot be reached: %s", error)
    elif isinstance(error, SessionGone | StateTooLarge):
        logger.info("A handler failed: %s.", error)
    else:
        return False
    return True


def _one_traceback(record: logging.LogRecord) -> bool:
    """Whether the SDK's record is to be logged; with the traceback of what was raised, without that of the wrapper."""
    if not record.exc_info or record.exc_info[1] is None:
        return True
    error = raised(record.exc_info[1])
    record.exc_info = (type(error), error, error.__traceback__)
    return not is_expected(error)


def install() -> None:
    """Filter the SDK's records of handlers that raise; once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_one_traceback)
