"""The record behind a handle: how it is made, checked, used and ended, and what is said when it cannot be."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from math import ceil
from typing import Final, TypeVar

from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions import counting
from mcp_sessions.conf import Limits
from mcp_sessions.conf.rates import HANDLES
from mcp_sessions.current import CurrentRequest, current_request
from mcp_sessions.errors import (
    HandleError,
    NoCurrentRequest,
    SessionGone,
    StateTooLarge,
    StoreUnavailable,
    TooManySessions,
)
from mcp_sessions.handles import text as texts
from mcp_sessions.records import Handshake, Session, has_subject, record_fingerprint
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import rates, sessions
from mcp_sessions.store.drivers import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Characters, besides the kind, of a wrong text that an error repeats: more than a number has, and too few of a secret.
SHOWN_CHARS: Final = 16
_OUTSIDE: Final = "There is no request here. Handles are made and used inside tools, resources and prompts."
_refused: Final = Repeats(logger, "New handles refused at a cap")


class Problem(HandleError, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client."""


class Unreachable(Problem, StoreUnavailable):
    """The store is away."""


class _NoRequest(NoCurrentRequest, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client."""


def request_of_handler() -> CurrentRequest:
    """The current request. Raises: NoCurrentRequest outside a handler."""
    request = current_request.get(None)
    if request is None:
        raise _NoRequest(_OUTSIDE)
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the class of a handle says of it."""

    kind: str
    #: Milliseconds.
    idle_ms: int
    max_age_ms: int
    max_per_principal: int | None
    #: None for STATE_MAX_BYTES.
    max_bytes: int | None

    @property
    def noun(self) -> str:
        """How messages call it."""
        return self.kind.replace("-", " ")

    def limits(self, principal: str, max_handles: int | None, shards: int) -> Limits:
        """The lifetimes and caps for the store. Callers without a subject share the cap of the endpoint only."""
        return _limits(self, has_subject(principal), max_handles, shards)


async def take_token(spec: Spec) -> None:
    """Count one more handle that is made, as RATE_LIMITS say. Raises: HandleError beyond them."""
    request = request_of_handler()
    conf = request.conf
    if not conf.rates:
        return
    who = rates.Who(request.principal, None, request.address)
    wanted = rates.buckets(conf.rates, (HANDLES,), who, shards=conf.limits.shards)
    try:
        verdicts = await request.store.run_all(rates.spend(wanted))
    except StoreUnavailable as error:  # in a request that is served without the store
        raise Unreachable(f"A new {spec.noun} cannot be made at the moment; try again.") from error
    for verdict in verdicts:
        if isinstance(verdict, rates.Lacking):
            _refused.add("Refused a new handle on endpoint %r: %s", conf.alias, verdict.bucket.limit)
            counting.count_limited(conf.alias, str(verdict.bucket.limit))
            wait = max(1, ceil(verdict.wait_ms / 1000))
            raise Problem(f"Too many new {spec.noun} handles. Try again in {wait} seconds.")


@lru_cache(maxsize=256)
def _limits(spec: Spec, has_owner: bool, max_handles: int | None, shards: int) -> Limits:
    return Limits(
        idle_ms=spec.idle_ms,
        max_age_ms=spec.max_age_ms,
        first_ms=spec.idle_ms,
        max_sessions=max_handles,
        max_sessions_per_principal=spec.max_per_principal if has_owner else None,
        shards=shards,
    )


@dataclass(slots=True, eq=False)
class Record:
    """The record of one handle in one request; a `state.Runs` that checks it before the first call."""

    spec: Spec
    #: As it was read.
    text: texts.Text
    limits: Limits
    #: None where there was no request: then nothing can be done with it.
    store: Store | None = None
    principal: str = ""
    fingerprint: str = ""
    #: STATE_MAX_BYTES or that of the class.
    max_bytes: int = 0
    #: Whether the store has confirmed in this request that the principal has this handle.
    checked: bool = False
    #: Tools that make such handles, for messages.
    made_by: Sequence[str] = field(default=())

    @classmethod
    def of(cls, spec: Spec, text: texts.Text) -> "Record":
        """The record that a text names for whoever asks."""
        request = current_request.get(None)
        if request is None:
            return cls(spec, text, spec.limits("", None, 1))
        principal = request.principal
        return cls(
            spec,
            text,
            spec.limits(principal, request.conf.max_handles, request.conf.limits.shards),
            request.store,
            principal,
            record_fingerprint("handle", spec.kind, principal, text.canonical),
            spec.max_bytes or request.conf.state_max_bytes,
        )

    async def create(self, another: "Callable[[], Record]") -> "Record | None":
        """Make it, or another one if the store has no room where this one belongs; the one that was made.

        None if the text is taken. Raises: HandleError.
        """
        request = request_of_handler()
        made = {self.fingerprint: self}

        def other() -> tuple[str, Handshake]:
            record = another()
            made[record.fingerprint] = record
            return record.fingerprint, record.handshake(request)

        create = sessions.create(
            self.fingerprint,
            principal=self.principal,
            handshake=self.handshake(request),
            limits=self.limits,
            another=other,
        )
        try:
            session = await request.store.run(create)
        except TooManySessions as error:
            raise self._no_room(request.conf.alias, per_principal=error.per_principal) from None
        except StoreUnavailable as error:
            raise self.unreachable() from error
        except ValueError:
            return None
        record = made[session.fingerprint]
        record.checked = True
        return record

    def handshake(self, request: CurrentRequest) -> Handshake:
        """What is stored with it; its text, too, unless that is a secret."""
        name = self.text.canonical if has_subject(self.principal) else ""
        return request.handshake.for_record("handle", label=self.spec.kind, name=name)

    async def run(self, work: Call[T], /) -> T:
        """The result of a call on the handle's state. Raises: HandleError; what else the call says."""
        if not self.checked:
            await check([self])
        try:
            return await self.home.run(work)
        except SessionGone:
            raise Problem(await self._gone()) from None
        except StateTooLarge as error:
            raise self._full() from error
        except StoreUnavailable as error:
            raise self.unreachable() from error

    async def end(self) -> bool:
        """End it, with its state. False if there was none. Raises: HandleError."""
        try:
            ended = await self.home.run(
                sessions.end(self.fingerprint, principal=self.principal, reason="deleted")
            )
        except StoreUnavailable as error:
            raise self.unreachable() from error
        if ended is not None:
            logger.info("Handle %.12s ended: deleted, by %r.", self.fingerprint, self.principal)
        return ended is not None

    @property
    def home(self) -> Store:
        """The store. Raises: NoCurrentRequest."""
        if self.store is None:
            raise _NoRequest(_OUTSIDE)
        return self.store

    def touch(self) -> Call[Session | None]:
        """The call that checks it, and slides its idle time."""
        return sessions.touch(self.fingerprint, principal=self.principal, limits=self.limits)

    # What is said when it cannot be used.

    @property
    def shown(self) -> str:
        """The text as an error may repeat it, which is logged: a secret only as far as it is none.

        Users may name one, too: that of a handle that they had before they signed in.
        """
        if has_subject(self.principal) and not self.text.secret:
            shown, most = " ".join(self.text.canonical.split()), len(self.spec.kind) + SHOWN_CHARS
            return shown if len(shown) <= most else shown[:most] + "…"
        return f"{self.spec.kind}-…{self.text.canonical[-2:]}" if self.text.whole else "This"

    def misread(self) -> str | None:
        """What is wrong with the text itself."""
        if self.text.valid:
            return None
        if self.text.whole:
            return f"{self.shown} has a mistyped character."
        source = " or ".join(self.made_by)
        copied = f"Copy it exactly as {source} returned it." if source else "Copy it exactly."
        return f"{self.shown} is not a whole {self.spec.noun} handle. {copied}"

    def lost(self, reason: str | None) -> str:
        """Why there is no such record, by the reason that its tombstone gives."""
        noun = self.spec.noun
        if reason == "expired_by_operator":
            return f"An operator ended this {noun}."
        source = " or ".join(self.made_by)
        again = f" {source} makes a new one." if source else ""
        if reason == "deleted":
            return f"This {noun} was ended.{again}"
        return (
            f"There is no such {noun}, or it expired after {duration(self.spec.idle_ms)} without use.{again}"
        )

    async def _gone(self) -> str:
        try:
            return self.lost(await self.home.run(sessions.end_reason(self.fingerprint)))
        except StoreUnavailable as error:
            raise self.unreachable() from error

    def unreachable(self) -> Unreachable:
        """What to raise when the store is away."""
        return Unreachable(f"The {self.spec.noun} could not be reached; try again.")

    def _full(self) -> Problem:
        return Problem(f"This {self.spec.noun} is full: it holds {self.max_bytes:,} bytes at most.")

    def _no_room(self, alias: str, *, per_principal: bool) -> Problem:
        noun = self.spec.noun
        counting.count_limited(alias, "max_per_principal" if per_principal else "MAX_HANDLES")
        if per_principal:
            return Problem(
                f"There are {self.spec.max_per_principal} {noun} handles already, the most that one user may have. "
                "End one that is not needed any more."
            )
        _refused.add("Refused a new handle on endpoint %r: MAX_HANDLES is reached", alias)
        return Problem(f"There is no room for another {noun} at the moment. Try again later.")


async def check(records: Sequence[Record]) -> None:
    """Check all of the records in one round trip, and in a second one why some cannot be used.

    An invented handle, an expired one and somebody else's are the same in all that a caller can see.

    Raises: HandleError, with what is wrong with each of them.
    """
    problems = [record.misread() for record in records]
    readable = [record for record, problem in zip(records, problems, strict=True) if problem is None]
    if readable:
        store = readable[0].home
        try:
            touched = await store.run_all([record.touch() for record in readable])
            for record, session in zip(readable, touched, strict=True):
                record.checked = session is not None
            lost = [record for record in readable if not record.checked]
            reasons = await store.run_all([sessions.end_reason(each.fingerprint) for each in lost])
        except StoreUnavailable as error:
            raise readable[0].unreachable() from error
        why = {id(record): record.lost(reason) for record, reason in zip(lost, reasons, strict=True)}
        problems = [problem or why.get(id(each)) for each, problem in zip(records, problems, strict=True)]
    found = [
        problem if len(records) == 1 or each.shown in problem else f"{each.shown}: {problem}"
        for each, problem in zip(records, problems, strict=True)
        if problem is not None
    ]
    if found:
        raise Problem(" ".join(dict.fromkeys(found)))


def duration(milliseconds: int) -> str:
    """A duration in words, in the largest unit of which it has two or more: "24 hours"."""
    left = timedelta(milliseconds=milliseconds)
    for unit, length in (
        ("days", timedelta(days=1)),
        ("hours", timedelta(hours=1)),
        ("minutes", timedelta(minutes=1)),
    ):
        if left >= 2 * length and not left % length:
            return f"{left // length} {unit}"
    seconds = left.total_seconds()
    return f"{seconds:g} seconds" if seconds != 1 else "1 second"
