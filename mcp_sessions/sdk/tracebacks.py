"""What the SDK logs of handlers that raise: one traceback for each, and none for what is no fault of theirs.

A log filter, because the SDK catches what a tool raises, logs it inside its own wrapper, and gives no way in between.
"""

import logging
from typing import Final

from mcp.server.mcpserver.exceptions import UnexpectedResourceError, UnexpectedToolError

from mcp_sessions.errors import (
    HandleError,
    NoCurrentSession,
    NoCurrentUser,
    SessionGone,
    StateTooLarge,
    StoreUnavailable,
)
from mcp_sessions.records import shown
from mcp_sessions.repeats import Repeats

logger = logging.getLogger(__name__)

#: The SDK's loggers that log what handlers raise.
_RUNNER: Final = "mcp.server.runner"
_LOGGERS: Final = ("mcp.server.mcpserver.server", _RUNNER)
_WRAPPERS: Final = (UnexpectedToolError, UnexpectedResourceError)
_unavailable: Final = Repeats(logger, "Handlers that failed without the session store")


def raised(error: BaseException, *, wrappers: tuple[type[BaseException], ...] = _WRAPPERS) -> BaseException:
    """What the handler itself raised, inside the SDK's wrappers."""
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    return error


def is_no_fault(error: BaseException) -> bool:
    """Whether a handler failed for a reason that is no fault of its own and needs no traceback; it is logged here.

    The store is away, which is logged once for an outage. Or it wants something that its client has not got: a session,
    a user, a handle that exists, room in a state. Clients can cause that as often as they like.
    """
    if isinstance(error, StoreUnavailable):
        _unavailable.add("A handler failed because the session store cannot be reached: %s", error)
    elif isinstance(error, (HandleError, NoCurrentSession, NoCurrentUser)):
        logger.info("A handler refused its client: %s", shown(str(error)))
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
    # The SDK wraps what a prompt raises once more.
    return not is_no_fault(raised(error, wrappers=(ValueError,)) if record.name == _RUNNER else error)


def install() -> None:
    """Filter the SDK's records of handlers that raise; once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_one_traceback)
