"""What handles ask of a store, and what they say when it is away, with a stand-in for it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions import counting
from mcp_sessions.conf import Endpoint
from mcp_sessions.current import current_request
from mcp_sessions.errors import HandleError, SessionGone, StoreUnavailable, TooManySessions
from mcp_sessions.handles import record
from mcp_sessions.handles import text as texts
from mcp_sessions.records import Handshake
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import queries
from mcp_sessions.store.calls.rates import Lacking
from tests.served.baskets import Basket

NUMBER = "basket-000-000-000"


class Store:
    """Answers each question with what comes next, or fails with it."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[Any] = []

    async def run(self, work: Any) -> Any:
        self.asked.append(work)
        if hasattr(work, "close"):
            work.close()
        return self._next()

    async def run_all(self, calls: Any) -> Any:
        self.asked.append(list(calls))
        return self._next()

    def _next(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(record, "_refused", Repeats(record.logger, "refused"))
    return Store()


@pytest.fixture
def asking(store: Store) -> Callable[..., None]:
    """Makes a request the current one, in the context of a test, which ends with it."""

    def ask(principal: str = "user:1", **fields: Any) -> None:
        request = SimpleNamespace(
            conf=Endpoint(alias="handles-without-a-store", server="unused", **fields),
            principal=principal,
            address=None,
            store=store,
            handshake=Handshake(protocol_version="1", client_info={}, capabilities={}),
        )
        current_request.set(request)

    return ask


async def test_a_thousand_handles_are_listed_of_who_has_a_subject(
    asking: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking()
    wanted: list[Any] = []
    monkeypatch.setattr(queries, "page", lambda query, **more: wanted.append((query, more)))
    store.answers = [SimpleNamespace(sessions=[SimpleNamespace(name=NUMBER)]), StoreUnavailable()]
    assert await Basket.mine() == [NUMBER]
    [(query, more)] = wanted
    assert (query.kind, query.principal, query.label) == ("handle", "user:1", "basket")
    assert (more["offset"], more["limit"]) == (0, 1_000)
    with pytest.raises(HandleError, match="The basket handles could not be reached; try again"):
        await Basket.mine()
    asking("anonymous")
    with pytest.raises(HandleError, match="handles of callers without a user cannot be listed"):
        await Basket.mine()


async def test_twenty_texts_are_tried(asking: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asking()
    minted: list[str] = []

    def mint(kind: str, form: texts.Form) -> str:
        minted.append(kind)
        assert form is texts.DIGITS
        return NUMBER

    monkeypatch.setattr(texts, "mint", mint)
    store.answers = [ValueError("it exists")] * 20
    with pytest.raises(HandleError, match="There is no room for another basket at the moment"):
        await Basket.create()
    assert (len(minted), store.answers) == (20, [])


@pytest.mark.parametrize(
    ("failure", "said", "counted"),
    [
        (StoreUnavailable(), "The basket could not be reached; try again.", None),
        (TooManySessions(per_principal=False), "There is no room for another basket", "limited:MAX_HANDLES"),
        (
            TooManySessions(per_principal=True),
            "There are 3 basket handles already",
            "limited:max_per_principal",
        ),
    ],
)
async def test_a_handle_that_cannot_be_made_says_why(
    asking: Any, store: Store, failure: Exception, said: str, counted: str | None
) -> None:
    asking()
    counting.take("handles-without-a-store")
    store.answers = [failure]
    with pytest.raises(HandleError) as refused:
        await Basket.create()
    assert str(refused.value).startswith(said)
    assert counting.take("handles-without-a-store").numbers == ({counted: 1} if counted else {})


async def test_a_handle_that_cannot_be_reached_says_so_whatever_it_is_used_for(
    asking: Any, store: Store
) -> None:
    asking()
    for answers in (
        [StoreUnavailable()],
        [[None], StoreUnavailable()],
        [["touched"], [], StoreUnavailable()],
        [["touched"], [], SessionGone(), StoreUnavailable()],
    ):
        store.answers = list(answers)
        basket = Basket(NUMBER)
        with pytest.raises(HandleError, match="The basket could not be reached; try again"):
            await basket.get("articles")
    store.answers = [StoreUnavailable()]
    with pytest.raises(HandleError, match="The basket could not be reached; try again"):
        await basket.end()


async def test_a_handle_that_is_counted_needs_the_store(asking: Any, store: Store) -> None:
    asking(rate_limits={"handles per principal": "1/d"})
    store.answers = [StoreUnavailable()]
    with pytest.raises(HandleError, match="A new basket cannot be made at the moment; try again"):
        await Basket.create()
    assert len(store.asked) == 1


@pytest.mark.parametrize(("wait_ms", "seconds"), [(0, 1), (1, 1), (1_000, 1), (1_001, 2)])
async def test_how_long_to_wait_is_said_in_whole_seconds(
    asking: Any, store: Store, caplog: pytest.LogCaptureFixture, wait_ms: int, seconds: int
) -> None:
    asking(rate_limits={"handles per principal": "1/d"})
    counting.take("handles-without-a-store")
    bucket: Any = SimpleNamespace(limit="handles per principal")
    store.answers = [["spent", Lacking(bucket, wait_ms)]]
    with pytest.raises(HandleError, match=f"Too many new basket handles. Try again in {seconds} seconds"):
        await Basket.create()
    assert counting.take("handles-without-a-store").numbers == {"limited:handles per principal": 1}
    assert caplog.messages == [
        "Refused a new handle on endpoint 'handles-without-a-store': handles per principal"
    ]
