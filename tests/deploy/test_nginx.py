"""What nginx.conf lets pass, by an application that echoes what reaches it."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx2
import pytest

from tests.deploy.nginx import nginx_for
from tests.support.processes import free_port

#: The processes that nginx.conf names.
NAMES = ("app-1", "app-2", "app-3")

pytestmark = [pytest.mark.needs("nginx")]


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request line and headers that it got; /broken gets no answer at all."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/broken":
            self.close_connection = True
            return
        body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of nginx in front of three names of one echoing server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    ports = dict.fromkeys(NAMES, server.server_address[1])
    with nginx_for(ports, tmp_path_factory.mktemp("echo")) as nginx:
        yield nginx.url
    server.shutdown()
    server.server_close()


FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "Daphne-Root-Path": "/forged",
}


def test_what_a_client_claims_about_itself_does_not_pass_nginx(echo: str) -> None:
    passed = dict(httpx2.get(echo + "/mcp", headers=FORGED, timeout=10).json())
    host = httpx2.URL(echo).netloc.decode()
    assert passed["x-forwarded-for"] == passed["x-real-ip"] == "127.0.0.1"
    assert (passed["x-forwarded-host"], passed["host"]) == (host, host)
    assert passed["x-forwarded-proto"] == "http"
    assert "daphne-root-path" not in passed
    assert "forwarded" not in passed


def test_what_the_protocol_needs_passes_nginx(echo: str) -> None:
    needed = {
        "accept": "application/json, text/event-stream",
        "authorization": "Bearer token",
        "last-event-id": "an-event",
        "mcp-protocol-version": "2025-11-25",
        "mcp-session-id": "a-session",
        "origin": "https://app.example.com",
    }
    passed = dict(httpx2.get(echo + "/mcp", headers=needed, timeout=10).json())
    assert {name: passed.get(name) for name in needed} == needed


def test_a_post_that_was_sent_is_never_sent_again(echo: str) -> None:
    before = Echo.asked.count("POST /broken")
    assert httpx2.post(echo + "/broken", json={}, timeout=10).status_code == 502
    assert Echo.asked.count("POST /broken") - before == 1


def test_a_get_that_failed_is_tried_elsewhere(echo: str) -> None:
    before = Echo.asked.count("GET /broken")
    assert httpx2.get(echo + "/broken", timeout=10).status_code == 502
    assert Echo.asked.count("GET /broken") - before > 1


def test_a_port_that_is_free_is_refused() -> None:
    """The tests above rely on this."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port()), timeout=5)
