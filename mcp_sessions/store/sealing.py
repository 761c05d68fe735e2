"""Encryption at rest: what a driver does with the secret arguments of calls, and with the replies, if there are keys.

AES-256 in Galois/counter mode, with a nonce for each text. What is sealed belongs to its home: moved to another record,
it does not open. Scripts look at the shape of some values, so that is kept: numbers stay as they are, a list is sealed
item by item, and anything else becomes one string.
"""

import hashlib
import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import RecordSealed
from mcp_sessions.store.call import SEALED, Call

_TEXT: Final = re.compile(re.escape(SEALED) + rb'([A-Za-z0-9_-]{43,}=*)"')
_NUMBER: Final = re.compile(rb"-?\d[\d.eE+-]*\Z")
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
#: Texts that a process opens once: the handshakes of sessions, which come with each request.
_KEPT: Final = 4096
_KEPT_BYTES: Final = 2048


class Sealer:
    """Seals and opens with the keys of one endpoint: the first seals, and all open."""

    def __init__(self, keys: Sequence[str]) -> None:
        ciphers = [hashlib.sha256(b"mcp_sessions.encryption\0" + key.encode()).digest() for key in keys]
        self._by_id = {_id(cipher): AESGCM(cipher) for cipher in ciphers}
        self._first = _id(ciphers[0])
        self._open_short = lru_cache(_KEPT)(self._open)

    def arguments(self, call: Call[Any]) -> Sequence[Any]:
        """The arguments of a call, with those sealed that are secret."""
        if not call.secrets:
            return call.arguments
        sealed = list(call.arguments)
        for place in call.secrets:
            sealed[place] = self._seal(sealed[place], call.home)
        return sealed

    def opened(self, call: Call[Any], reply: Any) -> Any:
        """The reply to a call as it would be without sealing.

        Raises: RecordSealed for what none of the keys opens, unless the call skips that.
        """
        try:
            return self._opened_all(call.home, reply)
        except RecordSealed as error:
            if not call.skips_sealed:
                raise
            log.debug("%s", error)  # the record is logged as unreadable
            return reply

    def _opened_all(self, home: str, reply: Any) -> Any:
        if isinstance(reply, list):
            return [self._opened_all(home, each) for each in reply]
        if isinstance(reply, bytes) and SEALED in reply:
            return _TEXT.sub(lambda found: self._opened(found[1], home), reply)
        return reply

    def _seal(self, value: str | bytes, home: str) -> bytes:
        text = value.encode() if isinstance(value, str) else bytes(value)
        if not text or _NUMBER.match(text):
            return text
        if text.startswith(b"["):
            items = [json.dumps(item, separators=(",", ":")).encode() for item in json.loads(text)]
            return b"[" + b",".join(self._seal_text(item, home) for item in items) + b"]"
        return self._seal_text(text, home)

    def _seal_text(self, text: bytes, home: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._by_id[self._first].encrypt(nonce, text, home.encode())
        return SEALED + urlsafe_b64encode(self._first + nonce + sealed) + b'"'

    def _opened(self, token: bytes, home: str) -> bytes:
        return (self._open_short if len(token) <= _KEPT_BYTES else self._open)(token, home)

    def _open(self, token: bytes, home: str) -> bytes:
        try:
            raw = urlsafe_b64decode(token)
            cipher = self._by_id.get(raw[:_ID_BYTES])
            nonce, sealed = raw[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], raw[_ID_BYTES + _NONCE_BYTES :]
            if cipher is not None:
                return cipher.decrypt(nonce, sealed, home.encode())
        except (InvalidTag, ValueError):
            pass
        raise RecordSealed(f"Record {home[:12]} is sealed with a key that is not in ENCRYPTION_KEYS.")


def _id(cipher: bytes) -> bytes:
    """What a key is found by; it gives nothing of the key away."""
    return hashlib.sha256(b"id\0" + cipher).digest()[:_ID_BYTES]
