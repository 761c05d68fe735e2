"""The keys that an identity provider publishes: fetched without blocking, kept, and renewed when they rotate."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import jwt

from mcp_sessions.errors import AuthenticationUnavailable
from mcp_sessions.repeats import Repeats

logger = logging.getLogger(__name__)

#: Seconds after which keys are fetched again, in the background, so that a withdrawn one is soon known.
FRESH_SECONDS: Final = 300.0
#: Seconds for which keys are used that cannot be fetched again.
LONGEST_SECONDS: Final = 3_600.0
#: Seconds between two attempts: invented key ids, and an outage, cost the provider no more than this.
PAUSE_SECONDS: Final = 10.0
#: Seconds that the provider has to answer.
TIMEOUT_SECONDS: Final = 5.0
#: Bytes of the answer, and keys in it.
MOST_BYTES: Final = 256 * 1024
MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A public key for signatures."""

    #: What tokens call it; None if the provider gives it no name.
    key_id: str | None
    #: RSA, EC or OKP.
    kind: str
    #: The one algorithm that it is for; None if the provider does not say.
    algorithm: str | None
    #: As PyJWT takes it.
    public: Any = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether it is for signatures of this algorithm: a key is never used for what it is not meant for."""
        kind = "RSA" if algorithm[:2] in ("RS", "PS") else "EC" if algorithm.startswith("ES") else "OKP"
        return self.kind == kind and self.algorithm in (None, algorithm)


class Keys:
    """The keys at one address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Sequence[Key] = ()
        #: When they were fetched, and when that was last tried, by the monotonic clock.
        self._fetched = self._tried = float("-inf")
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None
        self._failures = Repeats(logger, f"The keys at {url} could not be fetched")

    async def find(self, key_id: Any, algorithm: str) -> Key | None:
        """The key with this id for this algorithm; None if there is none. Without an id, the only one that fits.

        Raises: AuthenticationUnavailable if the provider does not answer, and no key is known that would do.
        """
        if not (key_id is None or isinstance(key_id, str)):
            return None
        age = time.monotonic() - self._fetched
        found = self._known(key_id, algorithm) if age < LONGEST_SECONDS else None
        if found is None:
            await self._fetch_again()
            found = self._known(key_id, algorithm)
            if found is None and self._failed:
                raise AuthenticationUnavailable("the identity provider does not answer")
        elif age >= FRESH_SECONDS:
            self._start()
        return found

    def _known(self, key_id: str | None, algorithm: str) -> Key | None:
        fitting = [
            key for key in self._keys if (key_id is None or key.key_id == key_id) and key.fits(algorithm)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch_again(self) -> None:
        """Fetch, unless that was tried a moment ago. All who wait share one attempt."""
        task = self._start()
        if task is not None:
            await asyncio.shield(task)

    def _start(self) -> "asyncio.Task[None] | None":
        task = self._fetching
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            return task
        if time.monotonic() - self._tried < PAUSE_SECONDS:
            return None
        self._tried = time.monotonic()
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                document = json.loads(await _read(self._url))
            self._keys = _parsed(document)
        except (httpx2.HTTPError, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._failed = True
            self._failures.add(
                "The keys at %s cannot be fetched: %s: %s", self._url, type(error).__name__, error
            )
        else:
            self._failed, self._fetched = False, time.monotonic()


async def _read(url: str) -> bytes:
    """The body of an answer of 200. Redirects are not followed. Raises: httpx2.HTTPError; ValueError."""
    # In a thread, because it reads the certificates of all authorities.
    client = await asyncio.to_thread(httpx2.AsyncClient, timeout=TIMEOUT_SECONDS)
    async with client, client.stream("GET", url) as response:
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
        return body


def _parsed(document: Any) -> list[Key]:
    """The keys for signatures in a JWK Set (RFC 7517). Those that are not understood are left out, as it says.

    Raises: ValueError if it is no JWK Set, or has no key that can be used.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    listed = entries if isinstance(entries, list) else []
    keys = [key for entry in listed[:MOST_KEYS] if (key := _key(entry)) is not None]
    if not keys:
        raise ValueError("it has no key for signatures")
    return keys


def _key(entry: Any) -> Key | None:
    """One key; None if it is not for signatures, secret, or not understood."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
        return None
    key_id, algorithm = entry.get("kid"), entry.get("alg")
    if not all(value is None or isinstance(value, str) for value in (key_id, algorithm)):
        return None
    try:
        public = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        logger.debug("A key of the provider is not understood.")
        return None
    return Key(key_id=key_id, kind=str(entry["kty"]), algorithm=algorithm, public=public)
