"""An identity provider in this process: it signs tokens, and publishes its keys over HTTP."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER: Final = "https://id.example.com"
AUDIENCE: Final = "https://mcp.example.com/mcp"


class Provider:
    """One provider. Tests change its attributes while it serves."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        #: Entries that are published besides the keys.
        self.odd: list[Any] = []
        self.status = 200
        #: How often the keys were asked for.
        self.asked = 0
        #: Requests wait here; cleared, the provider hangs.
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""
        self.rotate("first")

    def rotate(self, *names: str) -> None:
        """Publish just these keys, making those that are new. A name that begins with `ec` is for ES256."""
        self.keys = {name: self.keys.get(name) or _new(name) for name in names}

    def document(self) -> bytes:
        """The JWK Set."""
        published = []
        for name, key in self.keys.items():
            kind = ECAlgorithm if name.startswith("ec") else RSAAlgorithm
            published.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"})
        return json.dumps({"keys": [*published, *self.odd]}).encode()

    def token(self, subject: str | None = "ann", *, key: str | None = None, **claims: Any) -> str:
        """A good token, but for the claims that are given; None removes one."""
        name = key or next(iter(self.keys))
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now + 300, "iat": now, "scope": "mcp"}
        body |= claims
        signed = {claim: value for claim, value in body.items() if value is not None}
        algorithm = "ES256" if name.startswith("ec") else "RS256"
        return jwt.encode(signed, self.keys[name], algorithm=algorithm, headers={"kid": name})


_made: dict[str, Any] = {}


def _new(name: str) -> Any:
    """A key of that name: the same for all providers, because an RSA key takes a while."""
    if name not in _made:
        is_ec = name.startswith("ec")
        _made[name] = (
            ec.generate_private_key(ec.SECP256R1()) if is_ec else rsa.generate_private_key(65537, 2048)
        )
    return _made[name]


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that serves its keys at its `url`, on 127.0.0.1."""
    running = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked += 1
            running.answers.wait(20)
            body = running.document()
            self.send_response(running.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        running.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()
