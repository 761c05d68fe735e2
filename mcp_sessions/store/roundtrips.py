"""How calls travel, for both faces: what to send, what to send again, what replies mean. Pure."""

import re
from collections.abc import Generator, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.commands import Call
from mcp_sessions.store.scripts import Script

#: One script and the rest of its EVALSHA: the number of keys, keys, arguments.
Job = tuple[Script, Sequence[Any]]
Commands = list[Sequence[Any]]
Steps = Generator[Commands, list[Any], list[Any]]

#: Calls that one run of a script may do: half a millisecond in which Redis serves nobody else.
MOST_TOGETHER: Final = 64
#: Errors that say nothing of the call: it would get them alone, too.
_OF_THE_SERVER: Final = (OutOfMemoryError, ReadOnlyError)
#: How Redis, and services that speak its protocol, say that keys of one script are in several places.
_SLOTS: Final = re.compile("CROSSSLOT|same slot")
#: redis-py puts every Sentinel's connection options into some messages.
_LONGEST_MESSAGE: Final = 300


def pipelines(jobs: Sequence[Job]) -> Steps:
    """Yields the commands of each pipeline, is sent the replies (errors as values), returns a reply for each job.

    Usually one pipeline. A script that Redis does not know yet follows in full. What may be repeated is sent again,
    once, when the connection breaks: the caller throws that error in here.
    """
    commands: Commands = [("EVALSHA", script.sha, *arguments) for script, arguments in jobs]
    try:
        replies = yield commands
    except RedisConnectionError:
        if not all(script.repeatable for script, _ in jobs):
            raise
        replies = yield commands
    unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        again = yield [("EVAL", jobs[n][0].text, *jobs[n][1]) for n in unknown]
        for n, reply in zip(unknown, again, strict=True):
            replies[n] = reply
    return replies


class Gathering:
    """How calls of one script that takes many travel: in one run where all keys are in one place, else each alone.

    One reply in place of many, and one run in place of many, are most of what a batch would cost both sides. A run that
    fails is repeated call by call, so that nobody suffers for another's keys; a service that spreads keys over several
    Redis behind one address refuses every such run, and gets no more of them.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together

    def pipelines(self, jobs: Sequence[Job]) -> Steps:
        """As the function of that name."""
        size = MOST_TOGETHER if self._together else 1
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        replies = yield from pipelines([_joined(part) for part in parts])
        found: list[Any] = []
        for part, reply in zip(parts, replies, strict=True):
            if len(part) > 1 and isinstance(reply, ResponseError) and not isinstance(reply, _OF_THE_SERVER):
                self._together = self._together and not _SLOTS.search(str(reply))
                alone = yield from pipelines(part)
                found += [each[0] if isinstance(each, list) else each for each in alone]
            else:
                found += reply if isinstance(reply, list) else [reply] * len(part)
        return found


def _joined(jobs: Sequence[Job]) -> Job:
    """Several calls of a script as one: all keys, then all arguments."""
    script, first = jobs[0]
    if len(jobs) == 1:
        return script, first
    keys = [key for _, (count, *rest) in jobs for key in rest[:count]]
    arguments = [argument for _, (count, *rest) in jobs for argument in rest[count:]]
    return script, (len(keys), *keys, *arguments)


def checked(script: Script, reply: Any) -> Any:
    """The reply unless it is an error. A key of another type is a record that cannot be read; the rest is not ours.

    Raises: StoreUnavailable (out of memory, loading, read-only, a cluster that is down).
    """
    if isinstance(reply, Exception):
        if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply) and script.reads_record:
            return reply
        raise unavailable(reply)
    return reply


def results(calls: Sequence[Call[Any]], replies: Sequence[Any]) -> list[Any]:
    """What each call gives. Raises: as `checked`, and what the calls' decoders raise."""
    return [_result(call, reply) for call, reply in zip(calls, replies, strict=True)]


def _result(call: Call[Any], reply: Any) -> Any:
    try:
        return call.decode(checked(call.script, reply))
    except StoreUnavailable as error:
        if call.fails_alone:
            return error
        raise


def unavailable(error: BaseException) -> StoreUnavailable:
    """The error to raise for one of `clients.REDIS_ERRORS`; the cause stays visible."""
    wrapped = StoreUnavailable(f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE])
    wrapped.__cause__ = error
    return wrapped
