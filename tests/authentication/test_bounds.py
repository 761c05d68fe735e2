"""Bounds of time and size in authentication, by clocks that stand still."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from mcp.server.auth.provider import AccessToken

from mcp_sessions.authentication import blocking, identity, jwks, questions
from mcp_sessions.authentication import keys as keys_module
from mcp_sessions.authentication.addresses import parsed
from mcp_sessions.authentication.blocking import Asker, Blocks
from mcp_sessions.authentication.blocks import Block, checked
from mcp_sessions.authentication.identity import Identity, of_token
from mcp_sessions.authentication.jwks import JWKSVerifier
from mcp_sessions.authentication.keys import Key, Keys
from mcp_sessions.authentication.models import PersonalToken, create_token
from mcp_sessions.errors import AuthenticationUnavailable
from mcp_sessions.ids import NAME_CHARS

NOW = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `time` is for authentication: a test moves `now`."""
    clock = SimpleNamespace(now=NOW)
    clock.time = clock.monotonic = lambda: clock.now
    for module in (blocking, identity, jwks, keys_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Published:
    """What a provider publishes under one address, without HTTP."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.keys: Sequence[Key] = [key("a")]
        self.fails = False
        monkeypatch.setattr(keys_module, "_read", self._read)
        monkeypatch.setattr(keys_module, "_parsed", lambda _: self.keys)

    async def _read(self, url: str) -> bytes:
        self.asked += 1
        if self.fails:
            raise OSError(url)
        return b"{}"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    return Published(monkeypatch)


def key(key_id: str | None, kind: str = "RSA", algorithm: str | None = None) -> Key:
    return Key(key_id=key_id, kind=kind, algorithm=algorithm, public=None)


async def at_once(function: Callable[[], Any]) -> Any:
    """In the place of a thread, which would close the connections that other tests have left in it."""
    return function()


async def settled() -> None:
    """What was begun in the background has ended."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_keys_are_fetched_again_in_the_background_when_they_are_no_longer_fresh(
    clock: SimpleNamespace, published: Published
) -> None:
    keys = Keys("https://id.example.com/keys")
    assert await keys.find("a", "RS256") == key("a")
    clock.now = NOW + 299.9
    assert await keys.find("a", "RS256")
    await settled()
    assert published.asked == 1
    clock.now, published.keys = NOW + 300, [key("b")]
    assert await keys.find("a", "RS256") == key("a"), "nobody waits for it"
    await settled()
    assert published.asked == 2
    assert await keys.find("b", "RS256") == key("b")
    assert await keys.find("a", "RS256") is None


async def test_keys_that_cannot_be_fetched_again_are_used_for_an_hour(
    clock: SimpleNamespace, published: Published
) -> None:
    keys = Keys("https://id.example.com/keys")
    assert await keys.find("a", "RS256")
    published.fails = True
    clock.now = NOW + 3_599.9
    assert await keys.find("a", "RS256")
    await settled()
    assert published.asked == 2
    clock.now = NOW + 3_600 + 10
    assert await keys.find("a", "RS256") == key("a"), "better than nobody"
    assert published.asked == 3, "those who ask wait for it"


async def test_a_provider_is_asked_for_an_unknown_key_every_ten_seconds(
    clock: SimpleNamespace, published: Published
) -> None:
    keys = Keys("https://id.example.com/keys")
    asked = []
    for seconds in (0, 9.9, 10, 19.9, 20):
        clock.now = NOW + seconds
        assert await keys.find("unknown", "RS256") is None
        asked.append(published.asked)
    assert asked == [1, 1, 2, 2, 3]
    published.fails = True
    clock.now = NOW + 30
    with pytest.raises(AuthenticationUnavailable):
        await keys.find("unknown", "RS256")


async def test_a_token_without_a_key_id_is_for_the_only_key_that_fits(
    clock: SimpleNamespace, published: Published
) -> None:
    published.keys = [key("a"), key("e", "EC"), key("o", "OKP", "EdDSA"), key("p", "RSA", "PS256")]
    keys = Keys("https://id.example.com/keys")
    assert await keys.find(None, "RS256") == key("a")
    assert await keys.find(None, "PS256") is None, "two fit"
    assert await keys.find("p", "PS256") == key("p", "RSA", "PS256")
    assert await keys.find("p", "RS256") is None
    assert await keys.find(None, "ES512") == key("e", "EC")
    assert await keys.find(None, "EdDSA") == key("o", "OKP", "EdDSA")
    assert await keys.find(7, "RS256") is None


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": " mcp  read "}, ["mcp", "read"]),
        ({"scp": "mcp read"}, ["mcp", "read"]),
        ({"scp": ["mcp", 7, "read"]}, ["mcp", "read"]),
        ({"scope": "", "scp": ["mcp"]}, []),
        ({"scope": 7}, []),
        ({}, []),
    ],
    ids=str,
)
def test_scopes_are_words_or_a_list(
    clock: SimpleNamespace, claims: dict[str, Any], scopes: list[str]
) -> None:
    verifier = JWKSVerifier(Keys("unused"), issuer="", audiences=(), algorithms=())
    found = verifier._access_token("text", {"exp": NOW + 60, "sub": "ann"} | claims)
    assert found is not None
    assert (found.scopes, found.client_id, found.expires_at) == (scopes, "", int(NOW) + 60)


@pytest.mark.parametrize(("exp", "is_good"), [(NOW, True), (NOW - 0.9, True), (NOW - 1, False), ("1", False)])
def test_a_token_is_good_until_the_end_of_the_second_in_which_it_expires(
    clock: SimpleNamespace, exp: Any, is_good: bool
) -> None:
    verifier = JWKSVerifier(Keys("unused"), issuer="", audiences=(), algorithms=())
    assert (verifier._access_token("text", {"exp": exp, "sub": "ann"}) is not None) is is_good


def test_the_time_that_is_left_of_credentials_is_that_of_their_last_second(clock: SimpleNamespace) -> None:
    def of(expires_at: float | None) -> tuple[float, bool]:
        found = Identity(principal="ann", expires_at=expires_at)
        return found.seconds_left(), found.expired

    assert of(None) == (inf, False)
    assert of(NOW + 5) == (6, False)
    assert of(NOW) == (1, False)
    assert of(NOW - 1) == (0, True)
    assert of(NOW - 60) == (0, True)
    clock.now = NOW + 0.75
    assert of(NOW) == (0.25, False)
    token = AccessToken(token="t", client_id="c", scopes=["a"], expires_at=0)
    assert of_token(token).expires_at is None, "as the SDK reads it"


async def test_a_block_holds_until_its_moment_and_the_last_to_end_counts(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "x" * NAME_CHARS
    found = [
        ("principal", "user:7", NOW + 10),
        ("principal", "user:7", NOW + 20),
        ("client", f"{name}yz", NOW + 10),
        ("address", "192.0.2.0/24", NOW + 20),
        ("address", "192.0.2.0/24", NOW + 10),
        ("address", "198.51.100.1", NOW + 10),
    ]
    monkeypatch.setattr(blocking, "_active", lambda _: found)
    monkeypatch.setattr(blocking, "in_thread", at_once)
    blocks = Blocks("default")
    due = [blocks.due]
    await blocks.load()
    askers = {
        "principal": Asker(principal="user:7"),
        "client": Asker(client=name + "other"),
        "network": Asker(address="192.0.2.255"),
        "address": Asker(principal="user:8", client="other", address="198.51.100.1"),
        "nobody": Asker(),
        "others": Asker("client", "user:7", "198.51.100.2"),
    }

    def refused() -> set[str]:
        return {name for name, asker in askers.items() if blocks.refuse(asker)}

    assert refused() == {"principal", "client", "network", "address"}
    clock.now = NOW + 10
    assert refused() == {"principal", "network"}
    clock.now = NOW + 20
    assert refused() == set()
    for clock.now in (NOW + 19.9, NOW + 20):
        due.append(blocks.due)
    assert due == [True, False, True]


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("address", " 192.0.2.1 ", "192.0.2.1"),
        ("address", "::ffff:192.0.2.1", "192.0.2.1"),
        ("address", "2001:DB8::/32", "2001:db8::/32"),
        ("address", "::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("client", " a client ", " a client "),
        ("client", "anonymous", "anonymous"),
        ("principal", "user:7", "user:7"),
    ],
)
def test_what_is_blocked_is_kept_as_it_is_compared(kind: str, value: str, kept: str) -> None:
    assert checked(kind, value) == kept


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:80", "192.0.2.1"),
        (" [2001:db8::1]:80 ", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.256", "None"),
        ("192.0.2.1:80:90", "None"),
        ("", "None"),
    ],
)
def test_an_address_may_have_a_port(text: str, address: str) -> None:
    assert str(parsed(text)) == address


def test_the_state_of_tokens_and_blocks_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    later = now + timedelta(microseconds=1)
    states = [(None, "active"), (later, "active"), (now, "expired")]
    for expires, state in states:
        assert Block(expires=expires).state == PersonalToken(expires=expires).state == state
        assert Block(expires=expires, lifted=now).state == "lifted"
        assert PersonalToken(expires=expires, revoked=now).state == "revoked"
    assert str(PersonalToken(prefix="mcps_abc", name="laptop")) == "mcps_abc… (laptop)"
    assert str(PersonalToken(prefix="mcps_abc")) == "mcps_abc…"
    assert str(Block(kind="client", value="a\u202eb")) == "client a\ufffdb"


@pytest.mark.django_db
def test_a_token_has_256_random_bits_behind_what_it_is_listed_by() -> None:
    user = User.objects.create_user("ann")
    made = [create_token(user, name="a\0", scopes="mcp", endpoint="shop") for _ in range(3)]
    token, text = made[0]
    token.refresh_from_db()
    assert text.startswith("mcps_")
    assert (len(token.prefix), text[: len(token.prefix) + 1]) == (13, token.prefix + "_")
    assert len(text) == 13 + 1 + 43
    assert not set(token.prefix.removeprefix("mcps_")) & set("ilo01")
    assert (token.name, token.scopes, token.endpoint, token.expires) == ("a\ufffd0000", "mcp", "shop", None)
    assert len({text for _, text in made}) == len({token.prefix for token, _ in made}) == 3
    assert text not in str(vars(token))


async def test_credentials_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "TOGETHER", 4)
    monkeypatch.setattr(questions, "in_thread", at_once)
    parts: list[Sequence[Any]] = []

    def find(some: Sequence[Any]) -> dict[Any, Any]:
        parts.append(some)
        return {each: each for each in some if each != 5}

    identities = [Identity(principal="ann", key=number % 9) for number in range(10)]
    good = await questions.still_good(identities, find)
    assert [each.key for each in good] == [0, 1, 2, 3, 4, 6, 7, 8, 0]
    assert sorted(map(len, parts)) == [1, 4, 4]
    parts.clear()
    asked = questions.Questions(find)
    assert await asyncio.gather(*(asked.ask(str(number)) for number in range(9))) == [*map(str, range(9))]
    assert sorted(map(len, parts)) == [1, 4, 4]
