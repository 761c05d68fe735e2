"""Tokens of an outside provider: only its keys count, they rotate, and an outage of the provider locks nobody out."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from mcp_sessions.authentication import keys as keys_module
from mcp_sessions.authentication.jwks import JWKSVerifier
from mcp_sessions.authentication.keys import Keys
from mcp_sessions.errors import AuthenticationUnavailable
from mcp_sessions.testing import http_client, serving, url_of
from tests.authentication.ways import Way
from tests.support.mcp_client import RawClient
from tests.support.provider import AUDIENCE, ISSUER, Provider

ALGORITHMS = ("RS256", "ES256")


@pytest.fixture
def verifier(provider: Provider) -> JWKSVerifier:
    return JWKSVerifier(Keys(provider.url), issuer=ISSUER, audiences=(AUDIENCE,), algorithms=ALGORITHMS)


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(head: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
    """A token without a signature, or with one by HMAC."""
    signed = f"{encoded(head)}.{encoded(claims)}"
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{encoded(signature)}"


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 300} | more


async def test_a_good_token_names_its_subject_client_and_scopes(
    provider: Provider, verifier: JWKSVerifier
) -> None:
    found = await verifier.verify_token(provider.token(client_id="agent", scope="mcp read"))
    assert found is not None
    assert (found.subject, found.client_id, found.scopes) == ("ann", "agent", ["mcp", "read"])
    found = await verifier.verify_token(provider.token(scope=None, scp=["mcp"], azp="agent"))
    assert found is not None
    assert (found.client_id, found.scopes) == ("agent", ["mcp"])


async def test_a_client_that_acts_for_itself_is_no_person(provider: Provider, verifier: JWKSVerifier) -> None:
    found = await verifier.verify_token(provider.token("agent", client_id="agent"))
    assert found is not None
    assert (found.subject, found.client_id) == (None, "agent")


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": None},
        {"exp": 1},
        {"exp": float("inf")},
        {"nbf": float("-inf")},
        {"aud": None},
        {"aud": "https://elsewhere.example.com"},
        {"aud": []},
        {"iss": None},
        {"iss": "https://id.example.com.evil.example"},
        {"iss": ISSUER + "/"},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"azp": ["list"]},
    ],
    ids=str,
)
async def test_a_claim_that_is_missing_or_wrong_is_refused(
    provider: Provider, verifier: JWKSVerifier, wrong: dict[str, Any]
) -> None:
    assert await verifier.verify_token(provider.token(**wrong)) is None


async def test_a_token_without_a_signature_or_with_a_public_key_as_secret_is_refused(
    provider: Provider, verifier: JWKSVerifier
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = provider.keys["first"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert await verifier.verify_token(provider.token()) is not None
    for token in (
        forged({"alg": "none", "kid": "first"}, claims()),
        forged({"alg": "None", "kid": "first"}, claims()),
        forged({"kid": "first"}, claims()),
        forged({"alg": "HS256", "kid": "first"}, claims(), pem),
        forged({"alg": "HS256", "kid": "first"}, claims(), provider.document()),
        forged({"alg": "RS256", "kid": "first"}, claims(), pem),
        provider.token().rpartition(".")[0] + ".",
        provider.token()[:-3] + "AAA",
    ):
        assert await verifier.verify_token(token) is None


async def test_a_symmetric_key_that_is_published_by_mistake_is_not_used(provider: Provider) -> None:
    provider.odd = [{"kty": "oct", "k": encoded(b"secret" * 8), "kid": "shared", "alg": "HS256"}]
    verifier = JWKSVerifier(
        Keys(provider.url), issuer=ISSUER, audiences=(AUDIENCE,), algorithms=(*ALGORITHMS, "HS256")
    )
    token = forged({"alg": "HS256", "kid": "shared"}, claims(), b"secret" * 8)
    assert await verifier.verify_token(token) is None


@pytest.mark.parametrize(
    "kid",
    [
        "../../etc/passwd",
        "' OR 1=1 --",
        "first\x00",
        "http://127.0.0.1/keys",
        "x" * 4000,
        7,
        ["first"],
        {},
        "",
    ],
    ids=repr,
)
async def test_a_key_id_is_looked_up_and_nothing_else(
    provider: Provider, verifier: JWKSVerifier, kid: Any
) -> None:
    token = forged({"alg": "RS256", "kid": kid}, claims(), b"x")
    assert await verifier.verify_token(token) is None


async def test_a_token_that_is_nested_deeply_is_refused(verifier: JWKSVerifier) -> None:
    head = encoded(b'{"alg":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert await verifier.verify_token(f"{head}.{encoded({})}.{encoded(b'x')}") is None


async def test_the_clock_of_the_provider_may_be_a_minute_ahead(
    provider: Provider, verifier: JWKSVerifier
) -> None:
    now = int(time.time())
    assert await verifier.verify_token(provider.token(iat=now + 60, nbf=now + 60)) is not None
    assert await verifier.verify_token(provider.token(nbf=now + 90)) is None


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_a_token_cannot_bring_its_key_along(
    provider: Provider, verifier: JWKSVerifier, name: str
) -> None:
    mine = Provider()
    mine.rotate("mine")
    key = json.loads(mine.document())["keys"][0]
    value = {"jwk": key, "jku": provider.url, "x5u": provider.url, "x5c": ["AA=="]}[name]
    token = jwt.encode(claims(), mine.keys["mine"], algorithm="RS256", headers={name: value, "kid": "first"})
    assert await verifier.verify_token(token) is None


async def test_what_must_be_understood_and_is_not_is_refused(
    provider: Provider, verifier: JWKSVerifier
) -> None:
    token = jwt.encode(
        claims(), provider.keys["first"], algorithm="RS256", headers={"kid": "first", "crit": ["x"], "x": 1}
    )
    assert await verifier.verify_token(token) is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * 16_000, "." * 16_000, "[" * 9000])
async def test_what_is_no_token_is_refused(verifier: JWKSVerifier, token: str) -> None:
    assert await verifier.verify_token(token) is None


async def test_a_key_is_for_its_own_algorithm_only(provider: Provider, verifier: JWKSVerifier) -> None:
    provider.rotate("first", "ec")
    assert await verifier.verify_token(provider.token(key="ec")) is not None
    crossed = jwt.encode(claims(), provider.keys["ec"], algorithm="ES256", headers={"kid": "first"})
    assert await verifier.verify_token(crossed) is None


async def test_a_rotated_key_is_fetched_and_a_withdrawn_one_is_forgotten(
    provider: Provider, verifier: JWKSVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = provider.token()
    assert await verifier.verify_token(old) is not None
    provider.rotate("second")
    monkeypatch.setattr(keys_module, "PAUSE_SECONDS", 0.0)
    assert await verifier.verify_token(provider.token()) is not None
    assert await verifier.verify_token(old) is None


async def test_invented_key_ids_cost_the_provider_one_question(
    provider: Provider, verifier: JWKSVerifier
) -> None:
    tokens = [forged({"alg": "RS256", "kid": f"k{n}"}, claims(), b"x") for n in range(200)]
    assert set(await asyncio.gather(*map(verifier.verify_token, tokens))) == {None}
    assert provider.asked == 1


async def test_many_first_requests_share_one_question(provider: Provider, verifier: JWKSVerifier) -> None:
    found = await asyncio.gather(*(verifier.verify_token(provider.token()) for _ in range(50)))
    assert None not in found
    assert provider.asked == 1


async def test_a_provider_that_fails_is_no_reason_to_refuse(
    provider: Provider, verifier: JWKSVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.status = 500
    with pytest.raises(AuthenticationUnavailable):
        await verifier.verify_token(provider.token())
    asked = provider.asked
    with pytest.raises(AuthenticationUnavailable):  # at once: it was asked a moment ago
        await verifier.verify_token(provider.token())
    assert provider.asked == asked
    provider.status = 200
    monkeypatch.setattr(keys_module, "PAUSE_SECONDS", 0.0)
    assert await verifier.verify_token(provider.token()) is not None
    provider.status = 500
    provider.rotate("first", "second")
    assert await verifier.verify_token(provider.token()) is not None, "known keys outlast an outage"
    with pytest.raises(AuthenticationUnavailable):
        await verifier.verify_token(provider.token(key="second"))


async def test_a_provider_that_hangs_blocks_nobody_else(
    provider: Provider, verifier: JWKSVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "TIMEOUT_SECONDS", 0.3)
    provider.answers.clear()
    waiting = asyncio.create_task(verifier.verify_token(provider.token()))
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks >= 10
    with pytest.raises(AuthenticationUnavailable):
        await waiting


@pytest.mark.parametrize("odd", [[7], [{}], [{"kty": "RSA"}], [{"kty": "RSA", "n": 1, "e": 2}], ["x"] * 500])
async def test_keys_that_are_not_understood_are_left_out(
    provider: Provider, verifier: JWKSVerifier, odd: list[Any]
) -> None:
    provider.odd = odd
    assert await verifier.verify_token(provider.token()) is not None


async def test_a_client_reads_503_while_nobody_can_tell(provider: Provider, ways: dict[str, Way]) -> None:
    provider.status = 503
    client = RawClient(token=provider.token())
    async with serving(), http_client() as http:
        response = await http.post(url_of("jwks"), json=client.initialize_message(), headers=client.headers())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert "www-authenticate" not in response.headers
