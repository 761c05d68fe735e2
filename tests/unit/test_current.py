"""What handlers see of their session, user and conversation, with stand-ins for what serves them."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions import conf, counting, session
from mcp_sessions.current import current_exchange, current_request
from mcp_sessions.documentation import page
from mcp_sessions.errors import (
    NoCurrentSession,
    NoCurrentUser,
    SessionGone,
    StateError,
    StoreUnavailable,
    TooManySessions,
)
from mcp_sessions.implicit import ImplicitRecord
from mcp_sessions.records import Handshake, record_fingerprint
from mcp_sessions.session import CurrentConversation, current_session
from mcp_sessions.state import State, SyncState
from mcp_sessions.users import current_user

CLIENT = Handshake(protocol_version="2026-07-28", client_info={"name": "host"}, capabilities={"roots": {}})
KEYS = ("threadId", "chatId")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_told", set())


@pytest.fixture
def request_of() -> Iterator[Any]:
    """Makes a request of the modern era the current one."""
    tokens = []

    def make(principal: str = "user:1", keys: tuple[str, ...] = KEYS, **meta: Any) -> Any:
        request = SimpleNamespace(
            conf=conf.Endpoint(alias="shop", server="shop.mcp.server", conversation_keys=keys),
            principal=principal,
            handshake=CLIENT,
            meta=meta,
            store=None,
        )
        tokens.append(current_request.set(request))
        return request

    yield make
    for token in reversed(tokens):
        current_request.reset(token)


@pytest.mark.parametrize(
    ("meta", "named"),
    [
        ({"threadId": "t"}, ("threadId", "t")),
        ({"chatId": "c", "threadId": "t"}, ("threadId", "t")),
        ({"chatId": "c", "threadId": ""}, ("chatId", "c")),
        ({"chatId": "c", "threadId": "t" * 201}, ("chatId", "c")),
        ({"chatId": "c", "threadId": 7}, ("chatId", "c")),
        ({"threadId": "t" * 200}, ("threadId", "t" * 200)),
    ],
)
def test_a_conversation_is_the_first_that_a_request_names(
    request_of: Any, meta: dict[str, Any], named: tuple[str, str]
) -> None:
    request_of(**meta)
    found = current_session()
    assert isinstance(found, CurrentConversation)
    assert found.fingerprint == record_fingerprint("conversation", "user:1", *named)
    assert repr(found) == f"<CurrentConversation {found.fingerprint[:12]}>"
    assert (found.principal, found.protocol_version) == ("user:1", "2026-07-28")
    assert (found.client_info, found.capabilities) == ({"name": "host"}, {"roots": {}})
    assert (found.tools, found.revived) == (frozenset(), False)
    assert isinstance(found.state_sync, SyncState)
    assert isinstance(current_user().state_sync, SyncState)


@pytest.mark.parametrize("principal", ["account:1", "user:1", "oauth-client:c"])
def test_whoever_is_known_has_conversations(request_of: Any, principal: str) -> None:
    request_of(principal, threadId="t")
    assert current_session().principal == principal


@pytest.mark.parametrize(
    ("principal", "keys", "meta"),
    [
        ("user:1", KEYS, {}),
        ("user:1", KEYS, {"threadId": ""}),
        ("user:1", KEYS, {"threadId": "t" * 201}),
        ("user:1", (), {"threadId": "t"}),
        ("anonymous", KEYS, {"threadId": "t"}),
    ],
)
def test_a_request_that_names_no_conversation_has_none_and_the_operator_hears_it_once(
    request_of: Any, caplog: pytest.LogCaptureFixture, principal: str, keys: Any, meta: dict[str, Any]
) -> None:
    request_of(principal, keys, **meta)
    for _ in range(2):
        with pytest.raises(NoCurrentSession, match="needs a client that opens a session"):
            current_session()
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage().startswith("A tool of endpoint 'shop' asked for a session")
    assert record.getMessage().endswith(page("troubleshooting", "there-is-no-session"))


def test_outside_a_handler_there_is_neither_a_session_nor_a_user() -> None:
    with pytest.raises(NoCurrentSession, match="works inside tools, resources and prompts of a client"):
        current_session()
    with pytest.raises(NoCurrentUser, match="works inside tools, resources and prompts"):
        current_user()


def test_a_client_without_a_subject_has_no_user(request_of: Any) -> None:
    request_of("client:1")
    with pytest.raises(NoCurrentUser, match="needs a client that is signed in"):
        current_user()
    request_of("user:7")
    assert (current_user().principal, repr(current_user())) == ("user:7", "<CurrentUser user:7>")


def limits_of(state: State) -> Any:
    record: Any = state._store
    assert isinstance(record, ImplicitRecord)
    return record._limits


def test_the_state_of_a_user_lives_as_the_settings_say_and_a_year_at_most(request_of: Any) -> None:
    request_of()
    limits = limits_of(current_user().state)
    month = 30 * 86_400_000
    assert (limits.idle_ms, limits.first_ms, limits.max_age_ms) == (month, month, 365 * 86_400_000)
    assert (limits.max_sessions, limits.max_sessions_per_principal) == (None, None)


def test_the_state_of_a_conversation_lives_as_a_session_that_is_in_use(request_of: Any) -> None:
    request_of(threadId="t")
    limits = limits_of(current_session().state)
    assert (limits.idle_ms, limits.first_ms, limits.max_age_ms) == (3_600_000, 3_600_000, 86_400_000)
    assert (limits.max_sessions, limits.max_sessions_per_principal) == (100_000, 100)


@pytest.mark.parametrize("revived", [True, False])
async def test_a_session_that_was_revived_is_settled_once(revived: bool) -> None:
    settled = []

    class Exchange:
        session = SimpleNamespace(fingerprint="f" * 64, revived=revived, tools=frozenset({"till"}))
        opt_in_tools = frozenset({"till", "price"})

        async def settle_session(self) -> None:
            settled.append(True)

        async def change_tools(self, **changes: Any) -> frozenset[str]:
            return frozenset(changes)

    token = current_exchange.set(Exchange())  # type: ignore[arg-type] # what is asked of it
    try:
        found = current_session()
        assert (found.revived, repr(found)) == (revived, "<CurrentSession ffffffffffff>")
        assert found.tools == {"till"}
        await found.settle()
        assert settled == [True] * revived
        assert await found.enable_tools("price", "till") == {"enable"}
        assert await found.disable_tools("gone") == {"disable"}
        with pytest.raises(ValueError, match=r"Not opt-in tools of this server: a, b\. Register"):
            await found.enable_tools("b", "price", "a")
    finally:
        current_exchange.reset(token)


async def test_a_record_that_ends_as_often_as_it_is_made_is_given_up() -> None:
    asked: list[str] = []

    class Store:
        async def run_all(self, calls: Any) -> Any:
            asked.append(" ".join(call.script.name for call in calls))
            raise SessionGone("ended")

        async def run(self, operation: Any) -> None:
            asked.append("create")
            operation.close()

    limits = conf.Endpoint(alias="shop", server="shop.mcp.server").limits
    record = ImplicitRecord(
        Store(),  # type: ignore[arg-type] # what is asked of it
        "f" * 64,
        principal="user:1",
        alias="shop",
        limits=limits,
        handshake=lambda: CLIENT,
    )
    state = State(record, "f" * 64, max_bytes=100)
    with pytest.raises(SessionGone, match="ends as often as it is made"):
        await state.set("a", 1)
    assert asked == ["touch state_set", "create"] * 3
    asked.clear()
    assert await state.get("a", "nothing") == "nothing"
    assert await state.delete("a", "b") == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("failure", "said", "limited"),
    [
        (ValueError("it exists"), None, None),
        (TooManySessions(per_principal=True), "no room to remember more", "MAX_SESSIONS_PER_PRINCIPAL"),
        (TooManySessions(per_principal=False), "no room to remember more", "MAX_SESSIONS"),
        (StoreUnavailable("away"), "away", None),
    ],
)
async def test_a_record_that_another_process_made_is_used_and_one_that_cannot_be_made_is_said(
    failure: Exception, said: str | None, limited: str | None
) -> None:
    found: list[Any] = [SessionGone("none"), [None, 7]]
    made: list[Any] = []

    class Store:
        async def run_all(self, calls: Any) -> Any:
            answer = found.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def run(self, operation: Any) -> None:
            operation.close()
            made.append(operation)
            raise failure

    record = ImplicitRecord(
        Store(),  # type: ignore[arg-type] # what is asked of it
        "f" * 64,
        principal="user:1",
        alias="implicit",
        limits=conf.Endpoint(alias="implicit", server="shop.mcp.server").limits,
        handshake=lambda: CLIENT,
    )
    counting.take("implicit")
    writing = State(record, "f" * 64, max_bytes=100).append("a", 1)
    if said is None:
        assert await writing == 7
    else:
        with pytest.raises((StateError, StoreUnavailable), match=said):
            await writing
    assert len(made) == 1
    assert counting.take("implicit").numbers == ({f"limited:{limited}": 1} if limited else {})
