"""`StateHandle`: what tool authors derive their kinds of handles from."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from itertools import repeat
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, overload
from weakref import WeakValueDictionary

from anyio import from_thread
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mcp_sessions.conf.rules import LONGEST
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.handles import text as texts
from mcp_sessions.handles.record import (
    Problem,
    Record,
    Spec,
    Unreachable,
    check,
    duration,
    request_of_handler,
    take_token,
)
from mcp_sessions.records import has_subject
from mcp_sessions.state import State, SyncState
from mcp_sessions.store.calls import queries

#: How often `create` tries another text when one is taken.
_ATTEMPTS: Final = 20
#: Handles that `mine` returns at most.
MOST_LISTED: Final = 1_000
#: Texts of one call's arguments that are read as handles, which takes a tenth of a millisecond for each. More than a
#: call may have: in a union, each kind may read the same text.
MOST_READ: Final = 1_000

#: Gives one item for each text that may still be read.
_left: ContextVar[Iterator[None]] = ContextVar("mcp_sessions_handles_left")

_kinds: Final[WeakValueDictionary[str, type["StateHandle"]]] = WeakValueDictionary()


class SyncHandle(SyncState):
    """The methods of a handle for sync tools, which run in worker threads."""

    def __init__(self, handle: "StateHandle") -> None:
        super().__init__(handle)
        self._handle = handle

    def end(self) -> bool:
        """As `StateHandle.end`."""
        return from_thread.run(self._handle.end)


H = TypeVar("H", bound="StateHandle")


class TooManyHandles(Exception):
    """The arguments of a call have far more handles than a call may have. Pydantic does not catch it."""


@contextmanager
def reading_arguments() -> Iterator[None]:
    """In the block, models with handles are validated until there are more than MOST_READ: then TooManyHandles."""
    token = _left.set(repeat(None, MOST_READ))
    try:
        yield
    finally:
        _left.reset(token)


class SyncHandles(Generic[H]):
    """The class methods of a kind of handles for sync tools."""

    def __init__(self, kind: type[H]) -> None:
        self._kind = kind

    def create(self) -> H:
        """As `StateHandle.create`."""
        return from_thread.run(self._kind.create)

    def mine(self) -> list[H]:
        """As `StateHandle.mine`."""
        return from_thread.run(self._kind.mine)

    def resolve(self, text: str) -> H:
        """As `StateHandle.resolve`."""
        return from_thread.run(self._kind.resolve, text)


class _Sync:
    """`Basket.sync` and `basket.sync`."""

    @overload
    def __get__(self, instance: None, owner: type[H]) -> SyncHandles[H]: ...
    @overload
    def __get__(self, instance: "StateHandle", owner: type[Any]) -> SyncHandle: ...
    def __get__(self, instance: "StateHandle | None", owner: type[H]) -> "SyncHandles[H] | SyncHandle":
        return SyncHandles(owner) if instance is None else SyncHandle(instance)


class StateHandle(str, State):  # noqa: SLOT000 - the SDK reads `result` from an instance
    """State that spans calls, in both eras: a text that one tool returns and the model passes to other tools.

        class Basket(StateHandle, kind="basket", idle=timedelta(days=1), max_age=timedelta(days=30)):
            \"""A shopping basket.\"""

    A handle is a string, and has the atomic methods of a session's state. It belongs to the principal that created it:
    for anybody else it does not exist. Without a subject (anonymous clients, client credentials) it belongs to whoever
    has the text, which is long and secret then. It lives in the store, for `idle` after its last use and `max_age` at
    most.

    `sync` has the methods for sync tools: `basket.sync.get("articles")`, and `Basket.sync.create()`.

    All methods raise HandleError if the handle cannot be used, or the store not be reached; its text is for the model,
    and reaches it as a tool error. Outside a handler they raise NoCurrentRequest.
    """

    #: The text, under the name that a result has in a tool's output schema. The SDK makes the schema from it.
    result: str
    sync = _Sync()
    _spec: ClassVar[Spec]
    _record: Record

    def __init_subclass__(
        cls,
        *,
        kind: str,
        idle: timedelta = timedelta(days=1),
        max_age: timedelta = timedelta(days=30),
        max_per_principal: int | None = 100,
        max_bytes: int | None = None,
    ) -> None:
        """`kind`: lower-case letters and hyphens; the texts of handles begin with it. `max_per_principal`: handles of
        one principal, None for no limit; callers without a subject share MAX_HANDLES only. `max_bytes`: names and
        values of one handle, None for STATE_MAX_BYTES.

        Raises: TypeError or ValueError for what does not fit.
        """
        super().__init_subclass__()
        if not texts.KIND.match(kind) or len(kind) > texts.MAX_KIND_CHARS:
            raise ValueError(
                f"kind={kind!r} must be lower-case letters, with single hyphens between words, "
                f"{texts.MAX_KIND_CHARS} characters at most."
            )
        if not timedelta(0) < idle <= max_age <= LONGEST:
            raise ValueError(f"{cls.__name__} needs 0 < idle <= max_age <= {LONGEST.days} days.")
        for name, count in (("max_per_principal", max_per_principal), ("max_bytes", max_bytes)):
            if count is not None and count < 1:
                raise ValueError(f"{cls.__name__} needs {name} above 0, or None.")
        fields = [name for name in inspect.get_annotations(cls) if not name.startswith("_")]
        if fields:
            raise TypeError(
                f"{cls.__name__} annotates {', '.join(fields)}, but a handle has no fields: keep values in its state."
            )
        other = _kinds.get(kind)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{other.__module__}.{other.__qualname__} has the kind {kind!r} already.")
        _kinds[kind] = cls
        cls._spec = Spec(
            kind=kind,
            idle_ms=max(1, round(idle.total_seconds() * 1000)),
            max_age_ms=max(1, round(max_age.total_seconds() * 1000)),
            max_per_principal=max_per_principal,
            max_bytes=max_bytes,
        )

    def __new__(cls, text: str) -> Self:
        if cls is StateHandle:
            raise TypeError("StateHandle is a base: derive a class with a kind from it.")
        read = texts.read(cls._spec.kind, text)
        handle = super().__new__(cls, read.canonical)
        handle._record = Record.of(cls._spec, read)
        return handle

    def __init__(self, text: str) -> None:
        """The handle that a text names for whoever asks. It is checked when it is used first."""
        record = self._record
        State.__init__(self, record, record.fingerprint, max_bytes=record.max_bytes)
        self.result = str(self)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (str(self),)

    @classmethod
    async def create(cls) -> Self:
        """A new handle of whoever asks. Raises: HandleError at a cap, or without the store."""
        await take_token(cls._spec)
        form = texts.DIGITS if has_subject(request_of_handler().principal) else texts.SECRET
        minted: dict[str, Self] = {}

        def mint() -> Record:
            handle = cls(texts.mint(cls._spec.kind, form))
            minted[handle._record.fingerprint] = handle
            return handle._record

        for _ in range(_ATTEMPTS):
            made = await mint().create(mint)
            if made is not None:
                return minted[made.fingerprint]
        raise Problem(f"There is no room for another {cls._spec.noun} at the moment. Try again later.")

    @classmethod
    async def mine(cls) -> list[Self]:
        """The handles of this kind that whoever asks has, last used first, at most 1,000. It does not use them.

        Raises: HandleError for callers without a subject: whoever does not know a text may not learn it.
        """
        request = request_of_handler()
        if not has_subject(request.principal):
            raise Problem(f"The {cls._spec.noun} handles of callers without a user cannot be listed.")
        query = queries.Query(kind="handle", principal=request.principal, label=cls._spec.kind)
        conf = request.conf
        limits = cls._spec.limits(request.principal, conf.max_handles, conf.limits.shards)
        try:
            page = await request.store.run(queries.page(query, limits=limits, offset=0, limit=MOST_LISTED))
        except StoreUnavailable as error:
            raise Unreachable(f"The {cls._spec.noun} handles could not be reached; try again.") from error
        return [cls(session.name) for session in page.sessions]

    @classmethod
    async def resolve(cls, text: str) -> Self:
        """The handle that a text names, checked; for low-level servers, which read arguments themselves.

        Raises: HandleError; a low-level server's tool answers with its text as an error.
        """
        handle = cls(text)
        await check([handle._record])
        return handle

    @classmethod
    def schema(cls, *, made_by: str = "", listed_by: str = "") -> dict[str, Any]:
        """The JSON schema of a parameter, for low-level servers. The arguments name tools."""
        return {"type": "string", "description": cls.described(made_by=made_by, listed_by=listed_by)}

    @classmethod
    def described(cls, *, made_by: str = "", listed_by: str = "") -> str:
        """What the schema tells the model: which tools give handles of this kind, and how long one lives."""
        spec = cls._spec
        source = f", as {made_by} returned it" if made_by else ", as a tool returned it"
        listing = f" {listed_by} lists those that exist." if listed_by else ""
        lives = f" It expires {duration(spec.idle_ms)} after its last use"
        aged = (
            f", and {duration(spec.max_age_ms)} after it was made" if spec.max_age_ms > spec.idle_ms else ""
        )
        article = "An" if spec.noun[0] in "aeiou" else "A"
        return f"{article} {spec.noun} handle{source}.{listing}{lives}{aged}."

    async def end(self) -> bool:
        """End it, with its state, for ever. False if it did not exist, or had ended. Raises: HandleError."""
        if (problem := self._record.misread()) is not None:
            raise Problem(problem)
        return await self._record.end()

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Any string: a wrong one is an error of ours, which a model understands, when it is checked."""
        return core_schema.no_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        return cls.schema()

    @classmethod
    def _validated(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "Input should be a valid string")
        left = _left.get(None)
        if left is not None and next(left, left) is left:
            raise TooManyHandles
        return cls(value)


def kinds_exist() -> bool:
    """Whether any kind of handles is defined."""
    return bool(_kinds)


async def check_all(
    handles: Sequence[StateHandle], *, made_by: Mapping[type[StateHandle], Sequence[str]]
) -> None:
    """Check the handles of one call in one round trip; `made_by` names tools for messages. Raises: HandleError."""
    records = [handle._record for handle in handles]  # noqa: SLF001 - of this module
    for handle, record in zip(handles, records, strict=True):
        record.made_by = made_by.get(type(handle), ())
    distinct = {record.fingerprint: record for record in records}
    await check(list(distinct.values()))
    for record in records:
        record.checked = True
