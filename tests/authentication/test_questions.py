"""The database is asked about personal tokens: together, each time anew, and without locking out when it fails."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError
from rest_framework.authentication import BaseAuthentication

from mcp_sessions.authentication import login as logins
from mcp_sessions.authentication import questions as asking
from mcp_sessions.authentication import recheck, threads
from mcp_sessions.authentication.bearer import BearerAuthenticator
from mcp_sessions.authentication.identity import Identity, of_user
from mcp_sessions.authentication.login import LoginAuthenticator
from mcp_sessions.authentication.models import PersonalToken
from mcp_sessions.authentication.questions import Questions
from mcp_sessions.authentication.rest_framework import RestFrameworkAuthenticator
from mcp_sessions.conf import endpoint
from mcp_sessions.errors import AuthenticationUnavailable
from mcp_sessions.testing import http_client, serving, url_of
from tests.authentication.ways import Way, bearer, login
from tests.served.tokens import Verifier
from tests.support.mcp_client import RawClient

# The threads close the connections that other tests have left in them.
pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = PersonalToken(pk=1, digest="d", user=User(pk=1))


class Database:
    """What stands in for the table, so that a test decides when it answers."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.good = True
        self.answers = threading.Event()
        self.answers.set()

    def answer(self, digests: Iterable[str]) -> dict[str, PersonalToken]:
        found = dict.fromkeys(digests, TOKEN) if self.good else {}
        self.asked.append(list(digests))
        self.answers.wait(20)
        return found


@pytest.fixture
def database() -> Database:
    return Database()


async def test_who_waits_at_the_same_moment_shares_a_question(database: Database) -> None:
    questions = Questions(database.answer)
    found = await asyncio.gather(*(questions.ask(f"d{n % 10}") for n in range(300)))
    assert set(found) == {TOKEN}
    assert [sorted(set(each)) for each in database.asked] == [[f"d{n}" for n in range(10)]]


async def test_an_answer_from_before_a_request_is_not_given_to_it(database: Database) -> None:
    """The first question is asked before the token is revoked, and answered after that."""
    questions = Questions(database.answer)
    database.answers.clear()
    early = asyncio.create_task(questions.ask("d"))
    while not database.asked:
        await asyncio.sleep(0)
    database.good = False
    late = asyncio.create_task(questions.ask("d"))
    await asyncio.sleep(0)
    database.answers.set()
    assert await early is TOKEN
    assert await late is None
    assert len(database.asked) == 2


async def test_a_request_that_is_cancelled_leaves_the_others_their_answer(database: Database) -> None:
    questions = Questions(database.answer)
    database.answers.clear()
    first, second = (asyncio.create_task(questions.ask("d")) for _ in range(2))
    while not database.asked:
        await asyncio.sleep(0)
    first.cancel()
    database.answers.set()
    assert await second is TOKEN
    assert await questions.ask("d") is TOKEN


async def test_a_database_that_hangs_costs_a_bounded_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (asking, threads):
        monkeypatch.setattr(module, "SECONDS", 0.2)
    database.answers.clear()
    questions = Questions(database.answer)
    waiting = [asyncio.create_task(questions.ask(f"d{n}")) for n in range(20)]
    failed = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    database.answers.set()
    assert {type(each) for each in failed} == {AuthenticationUnavailable}
    assert await questions.ask("d") is TOKEN, "it goes on when the database does"


async def test_there_is_a_bound_on_who_waits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_WAITING", 5)
    questions = Questions(database.answer)
    found = await asyncio.gather(*(questions.ask(f"d{n}") for n in range(9)), return_exceptions=True)
    assert [type(each) for each in found] == [PersonalToken] * 5 + [AuthenticationUnavailable] * 4


async def test_there_is_a_bound_on_who_waits_for_a_thread_and_those_before_leave_their_places(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MOST_WAITING", 2)
    for _ in range(2):
        waiting = [threads.in_thread(lambda: database.answer("d")) for _ in range(3)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in found] == [dict, dict, AuthenticationUnavailable]


@pytest.mark.parametrize("way", ["personal-token", "session", "drf"])
async def test_a_client_keeps_its_credentials_while_the_database_is_away(
    ways: dict[str, Way], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(threads, "_run", fail)
    client = RawClient()
    sends = {
        "personal-token": bearer("mcps_any"),
        "session": {"cookie": "sessionid=any", "origin": "http://testserver"},
        "drf": {"authorization": "Token any"},
    }[way]
    async with serving(), http_client() as http:
        response = await http.post(
            url_of(way), json=client.initialize_message(), headers=client.headers() | dict(sends)
        )
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"


class Source:
    """Tells whether credentials are still good, as a test wants."""

    recheck_seconds = 0.01

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.failure: Exception | None = None
        self.looks = 0

    async def still_good(self, identities: Iterable[Identity]) -> list[Identity]:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return [each for each in identities if each.principal not in self.bad]


async def test_streams_end_whose_credentials_are_no_longer_good() -> None:
    source, ended = Source(), []
    ann, bob = (Identity(principal=name, source=source) for name in ("ann", "bob"))
    with (
        recheck.ended_with(ann, lambda: ended.append("ann")),
        recheck.ended_with(bob, lambda: ended.append("bob")),
    ):
        source.failure = AuthenticationUnavailable("for a while")
        source.bad = {"ann"}
        await looked(source, 3)
        assert ended == []
        source.failure = None
        await looked(source, 2)
    assert set(ended) == {"ann"}
    watch = recheck._watches[asyncio.get_running_loop()][source]
    assert watch._task is None, "nobody looks while nothing is open"


async def test_a_source_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    source, ended = Source(), []
    with recheck.ended_with(Identity(principal="ann", source=source), lambda: ended.append("ann")):
        source.failure = RuntimeError("a mistake")
        await looked(source, 2)
        source.failure, source.bad = None, {"ann"}
        await looked(source, 2)
    assert ended
    assert "could not be checked" in caplog.text


@pytest.mark.usefixtures("ways")
async def test_a_token_about_which_a_verifier_cannot_tell_keeps_no_other_from_being_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = BearerAuthenticator(endpoint("token"))
    ann, bob = [
        await authenticator.authenticate({"type": "http", "headers": [(b"authorization", text)]})
        for text in (b"Bearer ann-1", b"Bearer bob-1")
    ]
    assert ann is not None
    assert bob is not None

    async def verify_token(self: Verifier, token: str) -> None:
        if token == "bob-1":
            raise RuntimeError(f"the issuer of {token} is away")

    monkeypatch.setattr(Verifier, "verify_token", verify_token)
    assert await authenticator.still_good([ann, bob]) == [bob]
    assert "1 tokens of open streams" in caplog.text
    assert "bob-1" not in caplog.text


@pytest.mark.usefixtures("ways")
async def test_logins_of_open_streams_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, each would open a connection to the database, and five thousand would take longer than promised."""
    authenticator, looks = LoginAuthenticator(endpoint("session")), list[Any]()
    sends = {"host": "testserver", **await sync_to_async(login)()}
    headers = [(name.encode(), value.encode()) for name, value in sends.items()]
    scope = {"type": "http", "method": "POST", "path": "/session", "headers": headers}
    mine = await authenticator.authenticate(scope)
    assert mine is not None

    async def count(function: Any) -> Any:
        looks.append(function)
        return await threads.in_thread(function)

    monkeypatch.setattr(logins, "in_thread", count)
    others = [of_user(mine.user, source=authenticator, key=f"{n:032}") for n in range(99)]
    assert await authenticator.still_good([*others, mine]) == [mine]
    assert len(looks) == 2


async def looked(source: Source, times: int) -> None:
    """Wait until it was asked so often."""
    wanted = source.looks + times
    async with asyncio.timeout(20):
        while source.looks < wanted:
            await asyncio.sleep(0.005)


class Undecided(BaseAuthentication):  # type: ignore[misc]  # DRF has no types
    """Takes whoever names a user, and fails for one of them when it is asked again."""

    fails: ClassVar[set[str]] = set()

    def authenticate(self, request: Any) -> tuple[User, None] | None:
        name = request.META.get("HTTP_AUTHORIZATION", "")
        if name in self.fails:
            raise RuntimeError(f"{name} is too much")
        return (found, None) if (found := User.objects.filter(username=name).first()) else None


@pytest.mark.usefixtures("ways")
async def test_credentials_about_which_a_class_cannot_tell_keep_no_others_from_being_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = RestFrameworkAuthenticator(endpoint("drf"), Undecided)
    known: list[Any] = []
    for name in ("ann", "bob"):
        await User.objects.acreate(username=name)
        headers = [(b"host", b"testserver"), (b"authorization", name.encode())]
        scope = {"type": "http", "method": "POST", "path": "/drf", "headers": headers}
        known.append(await authenticator.authenticate(scope))
    await User.objects.all().adelete()
    monkeypatch.setattr(Undecided, "fails", {"bob"})
    assert list(await authenticator.still_good(known)) == known[1:]
    assert "Undecided raised RuntimeError" in caplog.text
    assert "bob" not in caplog.text
