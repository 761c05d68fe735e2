"""A call on the store, as a value: a script, its keys and arguments, and what the reply means. Pure.

A driver (`drivers`) runs calls. An operation that needs several round trips is a generator: it yields lists of calls
that may share a round trip, and is sent their results. `StoreUnavailable` is raised where it waits.
"""

import hashlib
import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from importlib.resources import files
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from mcp_sessions.connections.defaults import log
from mcp_sessions.connections.round_trips import NoReply, unavailable
from mcp_sessions.errors import StoreUnavailable

_FOLDER: Final = files("mcp_sessions.store") / "lua"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
#: What carries a script to Redis: calls of one pipeline share round trips, and do not wait for those of another.
Pipe = Literal["touches", "looks", "messages", "others", "follow_ups"]


class Script:
    """One of the Lua files, with the files that its functions are in put before it. Redis runs it as one act.

    `repeatable`: running it twice does no harm, so it is sent again when a connection breaks. `takes_many`: one run may
    do several calls, with the keys of all and then the arguments of all; it replies with a list. `together`: so do so
    many calls of a thread; in an event loop, where other scripts travel with them, each call is a list of one.
    """

    __slots__ = ("name", "pipe", "reads_record", "repeatable", "sha", "takes_many", "text", "together")

    def __init__(
        self,
        name: str,
        *heads: str,
        repeatable: bool = False,
        takes_many: bool = False,
        together: int = 1,
        pipe: Pipe = "others",
    ) -> None:
        parts = [(_FOLDER / f"{part}.lua").read_text(encoding="ascii") for part in (*heads, name)]
        self.name = name
        self.text = "\n".join(parts)
        self.sha = hashlib.sha1(self.text.encode("ascii"), usedforsecurity=False).hexdigest()
        self.repeatable = repeatable
        self.takes_many = takes_many
        self.together = together
        self.pipe = pipe
        self.reads_record = "local session, unreadable = load(" in self.text


class Call(NamedTuple, Generic[T_co]):
    """A script with its keys and arguments. The driver puts the time, or "", before them (ARGV[1])."""

    script: Script
    #: The fingerprint of the session that the keys belong to; for indexes what `keys.home_of` gives; "" for keys of
    #: the whole namespace.
    home: str
    #: The last parts of the keys: "session", "stream:standalone"…
    parts: Sequence[str]
    arguments: Sequence[Any]
    #: Makes the result of `home` and the script's reply.
    decode: Callable[[str, Any], T_co]
    #: Gives, for the result and the reply, calls to send without waiting for them. Best effort.
    follow_up: "Callable[[Any, Any], Sequence[Call[Any]]] | None" = None
    #: Whether an error reply, as StoreUnavailable, is this call's result, and not a failure of the calls beside it.
    fails_alone: bool = False
    #: Which of the arguments are sealed where there are ENCRYPTION_KEYS.
    secrets: Sequence[int] = ()
    #: Whether what no key opens is left in the reply as it is: such a record counts as unreadable. Else the call fails.
    skips_sealed: bool = False


#: How an encrypted text begins. JSON has no control characters, and neither has what clients say elsewhere in a record;
#: the names of state values may not contain it, and the calls that list the names of clients and tools open nothing. So
#: nobody can write what looks encrypted where that is looked for.
SEALED: Final = b'"\x01sealed1.'
#: The version of the records that this release writes and reads.
FORMAT: Final = b"1"
#: Versions of other releases whose records were seen in this process. More than so many are no releases, but garbage.
foreign: Final[set[bytes]] = set()
MOST_FOREIGN: Final = 20
#: An operation of several round trips.
Operation = Generator[Sequence[Call[Any]], list[Any], T]


def is_readable(fingerprint: str, reply: Any) -> bool:
    """Whether a script found the session. A record that it could not read is logged."""
    if type(reply) is list:
        return True
    if reply is not None:
        warn_unreadable(fingerprint, reply)
    return False


def warn_unreadable(fingerprint: str, text: bytes | Exception) -> None:
    """Log a record that is corrupt, or of a format version that this release does not know. It is left alone.

    Another release beside this one may write many of the latter: each version is logged at WARNING once.
    """
    version = text.split(b" ", 1)[0][:8] if isinstance(text, bytes) else type(text).__name__
    level = logging.DEBUG if version in foreign else logging.WARNING
    if isinstance(version, bytes) and version.isdigit() and version != FORMAT and len(foreign) < MOST_FOREIGN:
        foreign.add(version)
    log.log(level, "Session %s is unreadable (format %r); it is treated as gone.", fingerprint[:12], version)


def is_foreign(text: Any) -> bool:
    """Whether a record is of a format version that this release does not know: another one looks after it."""
    version = text.split(b" ", 1)[0] if isinstance(text, bytes) else b""
    return version.isdigit() and version != FORMAT


def check_unused(operation: Operation[Any]) -> None:
    """Raises: RuntimeError for an operation that ran before. Its generator is spent: it would do nothing, silently."""
    if inspect.getgeneratorstate(operation) != inspect.GEN_CREATED:
        raise RuntimeError("An operation runs once; make another one to repeat it.")


def failure(call: Call[Any], reply: Exception) -> StoreUnavailable | None:
    """Why a call failed: no reply, out of memory, loading, read-only, a cluster that is down.

    A key of another type is a record that cannot be read, which is no failure.
    """
    if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply) and call.script.reads_record:
        return None
    return unavailable(reply.cause if isinstance(reply, NoReply) else reply)
