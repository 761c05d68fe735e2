"""How scripts travel to Redis: what to send, what to send again, what errors mean. Pure."""

import re
from collections.abc import Generator, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.errors import StoreUnavailable


class Script(Protocol):
    """A script as Redis runs it."""

    @property
    def sha(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def repeatable(self) -> bool:
        """Whether running it twice does no harm."""
        ...

    @property
    def takes_many(self) -> bool:
        """Whether one run may do several calls, with the keys of all and then the arguments of all."""
        ...

    @property
    def together(self) -> int:
        """How many calls of a thread one run does."""
        ...


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


class NoReply(Exception):
    """A value in the place of a reply that did not come.

    `cause` is one of `clients.REDIS_ERRORS`. `sent`: the server may have done the call.
    """

    def __init__(self, cause: BaseException, *, sent: bool) -> None:
        super().__init__(str(cause))
        # The frames of a traceback hold the replies, and with them this error, until the garbage collector comes.
        self.cause = cause.with_traceback(None)
        self.sent = sent

    @property
    def is_late(self) -> bool:
        """Whether there was none in time."""
        return isinstance(self.cause, TimeoutError | RedisTimeoutError)

    def allows_again(self, script: Script) -> bool:
        """Whether a call may be sent once more: its connection broke, and it is not done twice or may be."""
        return isinstance(self.cause, RedisConnectionError) and (script.repeatable or not self.sent)


def round_trips(jobs: Sequence[Job]) -> Steps:
    """Yields the commands of each pipeline, is sent the replies (errors as values), returns a reply for each job.

    Usually one pipeline. When the connection breaks, what got no reply and may be repeated is sent again, once. A
    script that Redis does not know yet follows in full.
    """
    commands: Commands = [("EVALSHA", script.sha, len(keys), *keys, *rest) for script, keys, rest in jobs]
    replies = yield commands
    failed = [n for n, reply in enumerate(replies) if isinstance(reply, Exception)]
    if failed:
        replies = list(replies)
        lost = [n for n in failed if isinstance(replies[n], NoReply) and replies[n].allows_again(jobs[n][0])]
        if lost:
            _fill(replies, lost, (yield [commands[n] for n in lost]))
        unknown = [n for n in failed if isinstance(replies[n], NoScriptError)]
        if unknown:
            _fill(replies, unknown, (yield [("EVAL", jobs[n][0].text, *commands[n][2:]) for n in unknown]))
    return replies


def says_demoted(error: ResponseError) -> bool:
    """Whether a server says that it is a replica: its address may lead to another one by now."""
    return isinstance(error, ReadOnlyError | MasterDownError) or "read only replica" in str(error)


def _fill(replies: list[Any], places: Sequence[int], again: Sequence[Any]) -> None:
    for n, reply in zip(places, again, strict=True):
        replies[n] = reply


class Gathering:
    """How calls of scripts that take many travel: in one run of each where all keys are in one place, else each alone.

    One reply instead of many, and one run instead of many, save most of what a batch would cost both sides. A run that
    fails is repeated call by call, so that no call suffers for another's keys. A service that spreads keys over several
    Redis behind one address refuses every such run, and gets no more of them.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together

    def round_trips(self, jobs: Sequence[Job], *, most: int = MOST_TOGETHER) -> Steps:
        """As the function of that name."""
        if len(jobs) == 1 or not self._together:
            replies = yield from round_trips(jobs)
            return [reply[0] if type(reply) is list else reply for reply in replies]
        by_script: dict[Script, list[int]] = {}
        for place, job in enumerate(jobs):
            by_script.setdefault(job[0], []).append(place)
        parts = [
            places[start : start + most]
            for places in by_script.values()
            for start in range(0, len(places), most)
        ]
        replies = yield from round_trips([_joined([jobs[place] for place in part]) for part in parts])
        found: list[Any] = [None] * len(jobs)
        for part, reply in zip(parts, replies, strict=True):
            if len(part) > 1 and isinstance(reply, ResponseError) and not isinstance(reply, _OF_THE_SERVER):
                self._together = self._together and not _SLOTS.search(str(reply))
                alone = yield from round_trips([jobs[place] for place in part])
                _fill(found, part, [each[0] if isinstance(each, list) else each for each in alone])
            else:
                _fill(found, part, reply if isinstance(reply, list) else [reply] * len(part))
        return found


def _joined(jobs: Sequence[Job]) -> Job:
    """Several calls of a script as one: all keys, the time, then all arguments."""
    script, _, rest = jobs[0]
    every_key = [key for _, keys, _ in jobs for key in keys]
    return script, every_key, [rest[0], *(argument for _, _, rest in jobs for argument in rest[1:])]


def unavailable(error: BaseException) -> StoreUnavailable:
    """The error to raise for one of `clients.REDIS_ERRORS`; the cause stays visible."""
    wrapped = StoreUnavailable(f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE])
    wrapped.__cause__ = error
    return wrapped
