"""What is read of an identity provider's answer, and which of the keys in it count; and what a token's claims allow."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import jwt
import pytest

from mcp_sessions.authentication import keys as keys_module
from mcp_sessions.authentication.jwks import JWKSVerifier
from mcp_sessions.authentication.keys import MOST_BYTES, MOST_KEYS, Key, Keys
from tests.support.provider import Provider

URL = "https://id.example.com/keys"
MINUTE = 60


class Provided:
    """In the place of HTTP: what the provider answers."""

    def __init__(self) -> None:
        self.parts: Sequence[bytes] = (b"{}",)
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        self.timeouts: list[Any] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((request.method, str(request.url)))

        async def parts() -> Any:
            for each in self.parts:
                yield each

        headers = {"location": "https://elsewhere.example.com"}
        return httpx2.Response(self.status, content=parts(), headers=headers)


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> Provided:
    provided = Provided()
    monkeypatch.setattr(httpx2, "AsyncClient", _Made(provided, httpx2.AsyncClient))
    return provided


class _Made:
    """Makes clients of the provider, whose own class is needed for that."""

    def __init__(self, provided: Provided, kind: type[httpx2.AsyncClient]) -> None:
        self._provided, self._kind = provided, kind

    def __call__(self, *, timeout: float) -> httpx2.AsyncClient:
        self._provided.timeouts.append(timeout)
        return self._kind(transport=httpx2.MockTransport(self._provided.answer))


async def test_the_answer_is_read_up_to_a_bound(provided: Provided) -> None:
    assert MOST_BYTES == 262_144
    for size, is_read in ((MOST_BYTES, True), (MOST_BYTES + 1, False)):
        provided.parts = (b"x" * 100, b"x" * (size - 100))
        if is_read:
            assert len(await keys_module._read(URL)) == size
        else:
            with pytest.raises(ValueError, match="more than 262144 bytes"):
                await keys_module._read(URL)
    assert provided.asked == [("GET", URL)] * 2
    assert provided.timeouts == [5.0] * 2


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
async def test_only_an_answer_of_200_counts_and_no_redirect_is_followed(
    provided: Provided, status: int
) -> None:
    provided.status = status
    with pytest.raises(ValueError, match=f"status {status}"):
        await keys_module._read(URL)
    assert len(provided.asked) == 1


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    """A key as a provider publishes it."""
    [entry] = json.loads(Provider().document())["keys"]
    return dict(entry)


def test_only_keys_for_signatures_count_and_only_as_many_as_a_provider_has(entry: dict[str, Any]) -> None:
    assert MOST_KEYS == 100
    for others, is_found in ((99, True), (100, False)):
        document = {"keys": [*({"kty": "oct", "k": "c2VjcmV0"},) * others, entry]}
        if is_found:
            assert [each.key_id for each in keys_module._parsed(document)] == ["first"]
        else:
            with pytest.raises(ValueError, match="no key for signatures"):
                keys_module._parsed(document)
    documents: list[Any] = [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [7]}]
    for odd in documents:
        with pytest.raises(ValueError, match="no key for signatures"):
            keys_module._parsed(odd)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, ("first", "RSA", None)),
        ({"use": None}, None),
        ({"use": "enc"}, None),
        ({"alg": "PS256"}, ("first", "RSA", "PS256")),
        ({"alg": 7}, None),
        ({"kid": 7}, None),
        ({"kid": None}, (None, "RSA", None)),
        ({"kty": "oct"}, None),
        ({"n": "!"}, None),
    ],
    ids=str,
)
def test_a_key_says_what_it_is_for(entry: dict[str, Any], changed: dict[str, Any], found: Any) -> None:
    key = keys_module._key(entry | changed)
    assert (None if key is None else (key.key_id, key.kind, key.algorithm)) == found
    without = {name: value for name, value in entry.items() if name not in ("use", "kid")}
    assert keys_module._key(without) is not None
    assert "public" not in repr(key)


@pytest.mark.parametrize(
    ("kind", "fitting"),
    [
        ("RSA", {"RS256", "RS512", "PS256", "PS384"}),
        ("EC", {"ES256", "ES512"}),
        ("OKP", {"EdDSA"}),
    ],
)
def test_a_key_fits_the_algorithms_of_its_kind(kind: str, fitting: set[str]) -> None:
    key = Key(key_id=None, kind=kind, algorithm=None, public=None)
    every = {"RS256", "RS512", "PS256", "PS384", "ES256", "ES512", "EdDSA"}
    assert {each for each in every if key.fits(each)} == fitting


async def test_what_a_token_has_to_say_and_how_far_the_clock_of_its_provider_may_be_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys, asked = Keys(URL), list[Any]()

    async def find(key_id: Any, algorithm: str) -> Key:
        return Key(key_id="first", kind="RSA", algorithm=None, public="the key")

    def decode(token: str, key: Any, **more: Any) -> dict[str, Any]:
        asked.append((token, key, more))
        raise jwt.InvalidTokenError

    monkeypatch.setattr(keys, "find", find)
    monkeypatch.setattr(jwt, "decode", decode)
    verifier = JWKSVerifier(keys, issuer="i", audiences=("a", "b"), algorithms=("RS256", "ES256"))
    assert await verifier.verify_token(Provider().token()) is None
    [(_, key, more)] = asked
    assert key == "the key"
    assert more.pop("options") == {"require": ["exp", "iss", "aud"]}
    assert more == {"algorithms": ["RS256"], "audience": ("a", "b"), "issuer": "i", "leeway": MINUTE}


@pytest.mark.parametrize(
    ("claims", "client", "subject"),
    [
        ({"sub": "abe", "client_id": "agent"}, "agent", "abe"),
        ({"sub": "zoe", "client_id": "agent", "azp": "other"}, "agent", "zoe"),
        ({"sub": "zoe", "azp": "agent"}, "agent", "zoe"),
        ({"sub": "agent", "azp": "agent"}, "agent", None),
        ({"azp": "agent"}, "agent", None),
        ({"sub": "zoe"}, "", "zoe"),
    ],
    ids=str,
)
def test_a_subject_that_is_not_the_client_itself_is_a_person(
    claims: dict[str, str], client: str, subject: str | None
) -> None:
    verifier = JWKSVerifier(Keys(URL), issuer="i", audiences=("a",), algorithms=("RS256",))
    found = verifier._access_token("t", {"exp": 4_000_000_000, **claims})
    assert found is not None
    assert (found.client_id, found.subject) == (client, subject)
    assert found.claims == {"exp": 4_000_000_000, **claims}
    for wrong in ({}, {"sub": ""}, {"sub": "zoe", "azp": ""}, {"sub": 7}, {"sub": "zoe", "client_id": 7}):
        assert verifier._access_token("t", {"exp": 4_000_000_000, **wrong}) is None


async def test_another_event_loop_fetches_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of one loop cannot be waited for in another, and may never end there."""
    keys, began = Keys(URL), list[asyncio.AbstractEventLoop]()

    async def fetch() -> None:
        began.append(asyncio.get_running_loop())
        if len(began) == 1:
            await asyncio.Event().wait()

    monkeypatch.setattr(keys, "_fetch", fetch)
    monkeypatch.setattr(keys_module, "PAUSE_SECONDS", 0.0)

    async def start() -> None:
        first, second = keys._start(), keys._start()
        assert first is second, "whoever waits in one loop shares a fetch"
        await asyncio.sleep(0)

    def in_two() -> None:
        loops = [asyncio.new_event_loop() for _ in range(2)]
        for loop in loops:
            loop.run_until_complete(start())
        for loop in loops:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        assert began == loops

    await asyncio.to_thread(in_two)
