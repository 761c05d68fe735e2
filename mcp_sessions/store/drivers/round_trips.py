"""How calls travel to Redis: what to send, what to send again, what errors mean. Pure."""

import inspect
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, Script
from mcp_sessions.store.clients import REDIS_ERRORS

#: One script, its keys, and its arguments, of which the first is the time.
Job = tuple[Script, Sequence[str], Sequence[Any]]
Commands = list[Sequence[Any]]
Steps = Generator[Commands, list[Any], list[Any]]

#: Calls that one run of a script may do: half a millisecond in which Redis serves nobody else.
MOST_TOGETHER: Final = 64
#: Errors that say nothing about the call: it would get them alone, too.
_OF_THE_SERVER: Final = (OutOfMemoryError, ReadOnlyError)
#: How Redis, and services that speak its protocol, say that keys of one script are in several places.
_SLOTS: Final = re.compile("CROSSSLOT|same slot")
#: redis-py puts every Sentinel's connection options into some messages.
_LONGEST_MESSAGE: Final = 300


def round_trips(jobs: Sequence[Job]) -> Steps:
    """Yields the commands of each pipeline, is sent the replies (errors as values), returns a reply for each job.

    Usually one pipeline. A script that Redis does not know yet follows in full. What may be repeated is sent again,
    once, when the connection breaks: the caller throws that error in here.
    """
    commands: Commands = [("EVALSHA", script.sha, len(keys), *keys, *rest) for script, keys, rest in jobs]
    try:
        replies = yield commands
    except RedisConnectionError:
        if not all(script.repeatable for script, _, _ in jobs):
            raise
        replies = yield commands
    unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        again = yield [("EVAL", jobs[n][0].text, *commands[n][2:]) for n in unknown]
        for n, reply in zip(unknown, again, strict=True):
            replies[n] = reply
    return replies


def drive(steps: Steps, execute: Callable[[Commands], list[Any]]) -> list[Any]:
    """What the steps end with, a reply for each job. Raises: StoreUnavailable."""
    try:
        commands = next(steps)
        while True:
            try:
                replies = execute(commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as stop:
        done: list[Any] = stop.value
        return done
    except REDIS_ERRORS as error:
        raise unavailable(error) from error


class Gathering:
    """How calls of one script that takes many travel: in one run where all keys are in one place, else each alone.

    One reply instead of many, and one run instead of many, save most of what a batch would cost both sides. A run that
    fails is repeated call by call, so that no call suffers for another's keys. A service that spreads keys over several
    Redis behind one address refuses every such run, and gets no more of them.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together

    def round_trips(self, jobs: Sequence[Job]) -> Steps:
        """As the function of that name."""
        if len(jobs) == 1:
            [reply] = yield from round_trips(jobs)
            return reply if isinstance(reply, list) else [reply]
        size = MOST_TOGETHER if self._together else 1
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        replies = yield from round_trips([_joined(part) for part in parts])
        found: list[Any] = []
        for part, reply in zip(parts, replies, strict=True):
            if len(part) > 1 and isinstance(reply, ResponseError) and not isinstance(reply, _OF_THE_SERVER):
                self._together = self._together and not _SLOTS.search(str(reply))
                alone = yield from round_trips(part)
                found += [each[0] if isinstance(each, list) else each for each in alone]
            else:
                found += reply if isinstance(reply, list) else [reply] * len(part)
        return found


def _joined(jobs: Sequence[Job]) -> Job:
    """Several calls of a script as one: all keys, the time, then all arguments."""
    script, _, rest = jobs[0]
    every_key = [key for _, keys, _ in jobs for key in keys]
    return script, every_key, [rest[0], *(argument for _, _, rest in jobs for argument in rest[1:])]


def check_unused(operation: Operation[Any]) -> None:
    """Raises: RuntimeError for an operation that ran before. Its generator is spent: it would do nothing, silently."""
    if inspect.getgeneratorstate(operation) != inspect.GEN_CREATED:
        raise RuntimeError("An operation runs once; make another one to repeat it.")


def checked(call: Call[Any], reply: Any) -> Any:
    """The reply unless it is an error. A key of another type is a record that cannot be read; the rest is not ours.

    Raises: StoreUnavailable (out of memory, loading, read-only, a cluster that is down), or returns it if the call
    fails alone.
    """
    if isinstance(reply, Exception):
        if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply) and call.script.reads_record:
            return reply
        error = unavailable(reply)
        if call.fails_alone:
            return error
        raise error
    return reply


def unavailable(error: BaseException) -> StoreUnavailable:
    """The error to raise for one of `clients.REDIS_ERRORS`; the cause stays visible."""
    wrapped = StoreUnavailable(f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE])
    wrapped.__cause__ = error
    return wrapped
