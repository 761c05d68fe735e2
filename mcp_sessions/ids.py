"""Session ids: signed, so that no store need be asked whether one was ever given to its principal.

An id says what its session is, so that a process can go on with it where the store has lost it. It is visible ASCII,
MOST_CHARS at most, and consists of the version of the format; when the session was opened, in milliseconds, as 12
hexadecimal digits; base64url of its maximum age in milliseconds (6 bytes), 128 random bits, and what `initialize`
negotiated as JSON; and 144 bits of an HMAC-SHA256 over all of that, the namespace and the principal.

The id is a credential: only its fingerprint is stored, logged or shown. Nothing here asks a store or a clock.
"""

import hashlib
import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.core.signals import setting_changed

from mcp_sessions.errors import SessionGone
from mcp_sessions.records import Handshake
from mcp_sessions.security import derived_keys

#: Characters of an id. Longer ones are never ours.
MOST_CHARS: Final = 400
#: Characters that are carried of what a client calls itself, and of its version.
NAME_CHARS: Final = 64
VERSION_CHARS: Final = 32
#: Ids that a process knows without checking their signature again.
KEPT_IDS: Final = 4096

_PURPOSE: Final = "mcp_sessions.session_id"
_FORMAT: Final = "1"
_CREATED: Final = slice(1, 13)
_SIGNATURE_BYTES: Final = 18
_SIGNATURE_CHARS: Final = 24
_AGE_BYTES: Final = 6
#: In the maximum age: that the session was opened while the store could not be asked.
_UNWRITTEN: Final = 1 << 47
_RANDOM_BYTES: Final = 16
#: Anything that may be an id: it has all parts that every id has.
_ID: Final = re.compile(r"1[0-9a-f]{12}[A-Za-z0-9_-]{54,387}\Z")
#: What clients are capable of, as far as the protocol names it. Each is a bit, in this order, which may only be
#: appended to. The value is what clients send for it.
_KNOWN: Final[Sequence[tuple[str, ...]]] = (
    ("roots",),
    ("roots", "listChanged"),
    ("sampling",),
    ("sampling", "context"),
    ("sampling", "tools"),
    ("elicitation",),
    ("elicitation", "form"),
    ("elicitation", "url"),
    ("experimental",),
    ("extensions",),
    ("tasks",),
    ("tasks", "list"),
    ("tasks", "cancel"),
)


class SignedId(NamedTuple):
    """An id that was minted with a key of ours, for the principal that sent it, in this namespace."""

    #: The SHA-256 of the id, in hexadecimal.
    fingerprint: str
    #: When the session was opened, in milliseconds since the epoch, by the store's clock as far as the node knew it.
    created_ms: int
    text: str

    def __repr__(self) -> str:
        return f"<SignedId {self.fingerprint:.12}>"

    @property
    def deadline_ms(self) -> int:
        """When the session ends however active it is: created + MAX_AGE of that time."""
        return self.created_ms + (int.from_bytes(self._carried()[:_AGE_BYTES]) & ~_UNWRITTEN)

    @property
    def unwritten(self) -> bool:
        """Whether the session was opened while the store could not be asked: it may have no record yet."""
        return bool(int.from_bytes(self._carried()[:_AGE_BYTES]) & _UNWRITTEN)

    @property
    def handshake(self) -> Handshake | None:
        """What `initialize` negotiated, as far as it is carried; None if it was too long, or is of a newer release.

        Of the client's info it has the name and the version, cut off.
        """
        carried = self._carried()[_AGE_BYTES + _RANDOM_BYTES :]
        if not carried:
            return None
        match json.loads(carried):
            case [str() as protocol, str() as name, str() as version, int() | dict() as capabilities]:
                if isinstance(capabilities, int):
                    capabilities = _from_bits(capabilities)
                return Handshake(
                    protocol_version=protocol,
                    client_info={"name": name, "version": version},
                    capabilities=capabilities,
                )
        return None

    def _carried(self) -> bytes:
        encoded = self.text[_CREATED.stop : -_SIGNATURE_CHARS]
        return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def mint(
    handshake: Handshake,
    *,
    principal: str,
    namespace: str,
    created_ms: int,
    max_age_ms: int,
    unwritten: bool = False,
) -> SignedId:
    """A new id, with 128 random bits from the operating system. Times are milliseconds, since the epoch.

    `unwritten` says that the store could not be asked.
    """
    age = max_age_ms | (_UNWRITTEN if unwritten else 0)
    start = age.to_bytes(_AGE_BYTES) + secrets.token_bytes(_RANDOM_BYTES)
    body = _body(created_ms, start + _carried_of(handshake))
    if len(body) + _SIGNATURE_CHARS > MOST_CHARS:
        body = _body(created_ms, start)
    text = body + _signature(_keyed()[0], body, principal, namespace)
    return SignedId(fingerprint(text), created_ms, text)


# A wrong id raises, and so is not kept: nobody can fill the memory of a process, or push out the ids of others.
@lru_cache(maxsize=KEPT_IDS)
def verify(text: str, principal: str, namespace: str) -> SignedId:
    """The id, if one of our keys signed it for this principal in this namespace.

    Raises: SessionGone for any other text. All that have the form of an id take the same time.
    """
    if _ID.match(text):
        body, signature = text[:-_SIGNATURE_CHARS], text[-_SIGNATURE_CHARS:]
        for keyed in _keyed():
            if hmac.compare_digest(_signature(keyed, body, principal, namespace), signature):
                return SignedId(fingerprint(text), int(text[_CREATED], 16), text)
    raise SessionGone("no id of this principal")


def looks_like_one(text: str) -> bool:
    """Whether a text has the form of an id, whoever minted it."""
    return _ID.match(text) is not None


def fingerprint(text: str) -> str:
    """The SHA-256 of an id, in hexadecimal."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def key_digests() -> list[str]:
    """What tells the keys of processes apart and gives nothing of them away. The first is of the key to sign with."""
    return [hashlib.sha256(b"digest" + key).hexdigest()[:8] for key in derived_keys(_PURPOSE)]


@lru_cache(maxsize=1)
def _keyed() -> Sequence[hmac.HMAC]:
    """For each key what signs with it. A copy takes a fraction of the time that the key takes to be hashed."""
    return [hmac.new(key, digestmod="sha256") for key in derived_keys(_PURPOSE)]


def _signature(keyed: hmac.HMAC, body: str, principal: str, namespace: str) -> str:
    """Neither a namespace nor a body contains the zero that separates them, so no two triples have the same text."""
    signing = keyed.copy()
    signing.update(f"{namespace}\0{body}\0{principal}".encode("utf-8", "surrogatepass"))
    return urlsafe_b64encode(signing.digest()[:_SIGNATURE_BYTES]).decode("ascii")


def _body(created_ms: int, carried: bytes) -> str:
    return f"{_FORMAT}{created_ms:012x}{urlsafe_b64encode(carried).rstrip(b'=').decode('ascii')}"


def _carried_of(handshake: Handshake) -> bytes:
    """What `initialize` negotiated, as short JSON."""
    capabilities: Any = handshake.capabilities
    bits = _bits_of(capabilities)
    what = (
        handshake.protocol_version,
        handshake.client_name[:NAME_CHARS],
        handshake.client_version[:VERSION_CHARS],
        capabilities if bits is None else bits,
    )
    text = json.dumps(what, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _bits_of(capabilities: Mapping[str, Any]) -> int | None:
    """Capabilities as a number, if that says all of them."""
    bits = 0
    for n, path in enumerate(_KNOWN):
        found: Any = capabilities
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        bits |= (found is not None) << n
    return bits if _from_bits(bits) == capabilities else None


def _from_bits(bits: int) -> dict[str, Any]:
    capabilities: dict[str, Any] = {}
    for n, (first, *rest) in enumerate(_KNOWN):
        if bits >> n & 1:
            inner = capabilities.setdefault(first, {})
            for name in rest:
                inner[name] = True if name == "listChanged" else {}
    return capabilities


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _keyed.cache_clear()
        verify.cache_clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.ids")
