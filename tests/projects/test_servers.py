"""Projects that are served in another way than the README's: docs/existing-projects.md, followed to the letter."""

import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.docs import markdown
from tests.projects.generated import (
    DOCUMENT,
    Installation,
    Project,
    commands,
    expire,
    generate,
    sessions_in_admin,
    staff,
    with_database,
    works,
)
from tests.support.mcp_client import RawClient, messages
from tests.support.processes import Process, free_port, started
from tests.support.programs import path_of
from tests.support.redis import RedisServer
from tests.support.sockets import WebSocketClient

pytestmark = [pytest.mark.slow]

Generate = Callable[..., Project]


@pytest.fixture
def project(here: Installation, migrated: Project, redis_server: RedisServer, tmp_path: Path) -> Generate:
    """Makes the project of a section, with tables and a superuser."""

    def make(heading: str, name: str = "project") -> Project:
        made = generate(tmp_path / f"{tmp_path.name}-{name}", here, redis_server.url, heading)
        return with_database(made, migrated)

    return make


# WSGI


@pytest.mark.needs("nginx")
def test_a_site_that_stays_on_wsgi(project: Generate, unpacked: Path, tmp_path: Path) -> None:
    """An operator ends a session in the process of the pages, and it has ended in that of the endpoint."""
    heading = "A site that stays on WSGI"
    site = project(heading)
    pages, endpoint = (site.server(command) for command in commands(heading))
    nginx = nginx_of(heading, pages, endpoint, tmp_path)
    with started([pages, endpoint, nginx]):
        client = works(nginx.url, unpacked)
        with client.get(nginx.url) as stream, closing(staff(nginx.url)) as browser:
            listening = messages(stream)
            assert client.fingerprint in sessions_in_admin(browser)
            expire(browser, client)
            assert list(listening) == []
        assert client.post(nginx.url, client.request("ping")).status_code == 404
        # Past the proxy, Django says why it cannot serve it.
        assert httpx2.get(f"{pages.url}/mcp", timeout=30).status_code == 404
        pages.wait_until_it_says("reached Django over WSGI, which cannot serve it")


def nginx_of(heading: str, pages: Process, endpoint: Process, directory: Path) -> Process:
    """nginx with the section's configuration, in front of these instead of the ports that are written there."""
    [block] = markdown.blocks(markdown.section(DOCUMENT, heading), "nginx")
    port = free_port()
    text = block.code.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace(":8000;", f":{pages.port};").replace(":8001;", f":{endpoint.port};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    # As root, nginx would run its workers as a user who may not write below `directory`.
    user = "user root;\n" if os.geteuid() == 0 else ""
    conf = directory / "nginx.conf"
    conf.write_text(
        f"daemon off;\n{user}pid {directory}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{text}}}\n"
    )
    return Process(
        name="nginx",
        command=(path_of("nginx"), "-p", str(directory), "-c", str(conf), "-e", "stderr"),
        environment={},
        port=port,
        log=directory / "nginx.log",
    )


# Channels


def test_channels_consumers_of_its_own(project: Generate, unpacked: Path) -> None:
    server = project("Channels").server("daphne mysite.asgi:application")
    with started([server]), WebSocketClient.opened:
        works(server.url, unpacked)
        assert httpx2.get(f"{server.url}/status/", timeout=30).text == "up"
        assert httpx2.get(f"{server.url}/nothing/", timeout=30).status_code == 404
        socket = WebSocketClient(server)
        assert WebSocketClient(server).open("/echo/", "Origin: https://evil.example") == 403
        assert socket.open("/echo/", f"Origin: {server.url}") == 101
        socket.say(json.dumps({"text": "hello"}))
        _, heard = socket.heard()
        assert json.loads(heard) == {"text": "HELLO"}
        server.send_signal(signal.SIGTERM)
        assert socket.close_code() == 1001
        assert server.exit_code() == 0
        assert "the lifespan was exited" in server.output()


# Other servers

SERVERS = markdown.table(DOCUMENT, "Server")


@pytest.mark.logs_fault("CancelledError", "timeout graceful shutdown exceeded")
@pytest.mark.parametrize("command", [row[1].strip("`") for row in SERVERS], ids=lambda text: text.split()[0])
def test_another_server_serves_sessions_and_exits_the_lifespan(
    project: Generate, unpacked: Path, command: str
) -> None:
    server = project("Other servers").server(command)
    with started([server]):
        client = works(server.url, unpacked)
        with client.get(server.url) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert client.delete(server.url).status_code == 204
            assert list(messages(stream)) == []
        server.send_signal(signal.SIGTERM)
        # uvicorn ends by the signal once everything is closed.
        assert server.exit_code() == (-signal.SIGTERM if command.startswith("uvicorn") else 0)
        assert "the lifespan was exited" in server.output()


# HTTPS and prefixes


def test_plain_http_is_redirected_and_a_proxy_that_speaks_https_is_believed(
    project: Generate, unpacked: Path
) -> None:
    server = project("HTTPS").server("daphne mysite.asgi:application")
    https = httpx2.Client(timeout=30, headers={"x-forwarded-proto": "https"})
    with started([server]), https:
        client = RawClient()
        refused = client.post(server.url, client.initialize_message())
        assert refused.status_code == 308
        assert refused.headers["location"] == f"https://127.0.0.1:{server.port}/mcp"
        assert httpx2.get(f"{server.url}/admin/", timeout=30).status_code == 301
        works(server.url, unpacked, http=https)


#: Who says what the prefix is -> the paths below which a proxy may ask it.
PROXIED = {
    "daphne --root-path /app": ("", "/app"),
    "python -m mcp_sessions.daphne --root-path /app": ("", "/app"),
    "uvicorn --root-path /app": ("",),  # uvicorn puts the prefix before each path itself
    'FORCE_SCRIPT_NAME = "/app"': ("", "/app"),
}


def test_the_endpoint_and_the_admin_are_found_below_a_prefix_whoever_says_it(
    project: Generate, unpacked: Path
) -> None:
    plain, told = project("Other servers", "plain"), project("A path prefix", "told")
    sites = {
        said: (told if "=" in said else plain).server(
            f"{'daphne' if '=' in said else said} mysite.asgi:application", name=re.sub(r"\W+", "-", said)
        )
        for said in PROXIED
    }
    with started(list(sites.values())):
        for said, paths in PROXIED.items():
            for sent in paths:
                url = sites[said].url
                works(url, unpacked, path=f"{sent}/mcp")
                to_login = httpx2.get(f"{url}{sent}/admin/", timeout=30)
                assert to_login.headers["location"] == "/app/admin/login/?next=/app/admin/", said
                assert httpx2.get(f"{url}{sent}/nothing", timeout=30).status_code == 404, said


def test_the_table_of_prefixes_says_what_was_tried() -> None:
    [header, *rows] = [
        line.split(" | ")
        for line in markdown.section(DOCUMENT, "A path prefix").splitlines()
        if line[:1] == "|"
    ]
    written = {
        row[0]: tuple(path for path, cell in (("", row[2]), ("/app", row[1])) if cell.startswith("works"))
        for row in rows[1:]
    }
    assert header[1:] == ["The proxy sends `/app/mcp`", "The proxy sends `/mcp` |"]
    for said, paths in PROXIED.items():
        [row] = [row for row in written if f"`{said}`" in row]
        assert written[row] == paths


# User model, admin site, caches

#: Prints a token of the superuser.
SET_UP_PEOPLE = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from mcp_sessions.tokens import create_token

call_command("makemigrations", "people", verbosity=0)
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
call_command("createsuperuser", interactive=False, email="ada@example.com", verbosity=0)
print(create_token(get_user_model().objects.get(email="ada@example.com"), name="laptop")[1])
"""


def test_a_user_model_an_admin_site_and_a_default_cache_that_is_not_redis(
    here: Installation, redis_server: RedisServer, unpacked: Path, tmp_path: Path
) -> None:
    heading = "A user model, an admin site and caches of your own"
    made = generate(tmp_path / f"{tmp_path.name}-project", here, redis_server.url, heading)
    (made.directory / "people" / "__init__.py").touch()
    token = made.run(SET_UP_PEOPLE).split()[-1]
    server = made.server("daphne mysite.asgi:application")
    with started([server]):
        assert httpx2.post(f"{server.url}/mcp", json={}, timeout=30).status_code == 401
        client = works(server.url, unpacked, token=token)
        with closing(staff(server.url, name="ada@example.com")) as browser:
            listed = sessions_in_admin(browser)
            assert "For our staff" in listed
            assert client.fingerprint in listed
            assert "ada@example.com" in listed
            [user] = set(re.findall(r'href="(/admin/people/person/[^"]+/change/)"', listed))
            assert "End MCP sessions" in browser.get(user).text
            expire(browser, client)
        assert client.post(server.url, client.request("ping")).status_code == 404
