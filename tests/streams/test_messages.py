"""Messages from no request at all: from this process, which serves nothing, to clients of two others."""

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from itertools import islice
from typing import Final

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings

from mcp_sessions import messages as to_clients
from mcp_sessions.ending import end_session
from tests.support.mcp_client import RawClient, connected, messages
from tests.support.processes import Process, wait_until
from tests.support.redis import RedisInspector, RedisServer

#: Times that a connection closes while a newer one is open.
ROUNDS: Final = 6


@pytest.fixture(autouse=True)
def the_same_service(redis_server: RedisServer, processes: list[Process]) -> Iterator[None]:
    """This process uses the Redis and the namespace of the processes."""
    entry = {**settings.MCP_SESSIONS["default"], "NAMESPACE": processes[0].environment["MCP_NAMESPACE"]}
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    with override_settings(MCP_SESSIONS={"default": entry}, CACHES={"default": cache}):
        yield


async def test_async_code_sends_to_a_session_whether_it_listens_or_not(b: str, client: RawClient) -> None:
    digest = client.fingerprint
    assert await to_clients.asend(digest, "notifications/resources/list_changed")
    with client.get(b) as listening:
        received = messages(listening)
        assert next(received)["method"] == "notifications/resources/list_changed"
        assert await to_clients.asend(digest, "notifications/message", {"level": "info", "data": "hello"})
        assert next(received)["params"] == {"level": "info", "data": "hello"}


def test_sync_code_sends_too_and_learns_when_the_session_is_gone(a: str, b: str, client: RawClient) -> None:
    digest = client.fingerprint
    with client.get(b) as listening:
        received = messages(listening)
        assert to_clients.send(digest, "notifications/tools/list_changed")
        assert next(received)["method"] == "notifications/tools/list_changed"
    assert client.delete(a).status_code == 204
    assert not to_clients.send(digest, "notifications/tools/list_changed")


@pytest.mark.protocol("H17")
@pytest.mark.parametrize("last", ["A", "B"])
def test_a_stream_goes_back_to_a_connection_that_is_still_open(
    redis_server: RedisServer, processes: list[Process], client: RawClient, last: str
) -> None:
    a, b = (process.url for process in processes)
    redis = RedisInspector(redis_server, processes[0].environment["MCP_NAMESPACE"])

    def say(number: int) -> None:
        params = {"level": "info", "data": number}
        assert to_clients.send(client.fingerprint, "notifications/message", params)

    with client.get(a) as staying:
        stays, first = messages(staying), redis.holder(client.fingerprint)
        with client.get(a if last == "A" else b) as leaving:
            leaves = messages(leaving)
            say(1)
            assert next(leaves)["params"]["data"] == 1
            assert redis.holder(client.fingerprint) > first
        wait_until(
            lambda: redis.holder(client.fingerprint) == first,
            what="the first connection to get the stream back",
        )
        say(2)
        assert next(stays)["params"]["data"] == 2


@pytest.mark.protocol("H17")
def test_an_older_connection_that_closes_leaves_the_stream_to_the_newest(
    redis_server: RedisServer, processes: list[Process], client: RawClient
) -> None:
    redis = RedisInspector(redis_server, processes[0].environment["MCP_NAMESPACE"])
    kept = 0
    for number in range(ROUNDS):
        here, there = [process.url for process in processes][:: 1 if number % 2 else -1]
        with client.get(here), ExitStack() as stack:
            with client.get(here):
                received = messages(stack.enter_context(client.get(there)))
                newest = redis.holder(client.fingerprint)
            for _ in range(3):  # its process has noticed when it has answered these
                client.value(here, "add", a=1, b=1)
            params = {"level": "info", "data": number}
            assert to_clients.send(client.fingerprint, "notifications/message", params)
            kept += redis.holder(client.fingerprint) == newest
            assert next(received)["params"]["data"] == number
        wait_until(lambda: redis.holder(client.fingerprint) == 0, what="all to be closed")
    print(f"standalone: {kept} of {ROUNDS} kept by the newest")  # noqa: T201
    assert kept == ROUNDS


@pytest.mark.protocol("H17")
def test_the_only_listener_releases_the_stream_when_it_leaves(
    redis_server: RedisServer, processes: list[Process], a: str, client: RawClient
) -> None:
    redis = RedisInspector(redis_server, processes[0].environment["MCP_NAMESPACE"])
    with client.get(a):
        assert redis.holder(client.fingerprint) > 0
    wait_until(lambda: redis.holder(client.fingerprint) == 0, what="the stream to be released")
    assert to_clients.send(client.fingerprint, "notifications/tools/list_changed")
    assert "Traceback" not in processes[0].log.read_text()


@pytest.mark.protocol("H17")
def test_a_listener_that_left_at_once_takes_no_message(
    processes: list[Process], a: str, client: RawClient
) -> None:
    for number in range(3):
        assert to_clients.send(client.fingerprint, "notifications/message", {"level": "info", "data": number})
    with stopped(processes[0]):
        for _ in range(5):
            leave_at_once(processes[0], client)
    with client.get(a) as listening:
        heard = [message["params"]["data"] for message in islice(messages(listening), 3)]
    assert heard == [0, 1, 2]


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Stop the process; what happens in the block reaches it all at once afterwards."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def leave_at_once(process: Process, client: RawClient) -> None:
    """Ask for the standalone stream, and reset the connection before anything can be answered."""
    wanted = {"host": "127.0.0.1", **client.headers(accept="text/event-stream", content_type=None)}
    head = "".join(f"{name}: {value}\r\n" for name, value in wanted.items())
    with socket.create_connection(process.address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(f"GET {client.path} HTTP/1.1\r\n{head}\r\n".encode())


def test_an_announcement_from_outside_reaches_every_listener(a: str, b: str, client: RawClient) -> None:
    other = connected(b)
    with client.get(a) as one, other.get(b) as another:
        heard = [messages(one), messages(another)]
        to_clients.announce(to_clients.PROMPTS_CHANGED)
        for each in heard:
            assert next(each)["method"] == "notifications/prompts/list_changed"


async def test_async_code_announces_too(a: str, client: RawClient) -> None:
    with client.get(a) as stream:
        heard = messages(stream)
        await to_clients.aannounce(to_clients.RESOURCES_CHANGED)
        assert next(heard)["method"] == "notifications/resources/list_changed"


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("notifications/message", None),
        (to_clients.RESOURCE_UPDATED, None),
        (to_clients.TOOLS_CHANGED, "x://y"),
    ],
)
def test_an_announcement_that_makes_no_sense_is_refused(method: str, uri: str | None) -> None:
    with pytest.raises(ValueError, match="announce"):
        to_clients.announce(method, uri)


@pytest.mark.protocol("H26")
def test_a_session_that_an_operator_ends_closes_its_streams_on_every_process(
    a: str, b: str, client: RawClient
) -> None:
    with client.get(a) as one, client.get(b) as another:
        heard = [messages(one), messages(another)]
        assert end_session("default", client.fingerprint) is not None
        assert all(list(each) == [] for each in heard)
    for url in (a, b):
        assert client.post(url, client.request("ping")).status_code == 404
    assert end_session("default", client.fingerprint) is None


@pytest.mark.django_db
def test_an_operator_sees_the_server_processes(processes: list[Process], client: RawClient, b: str) -> None:
    client.value(b, "add", a=1, b=1)
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    page = browser.get("/admin/mcp_sessions/mcpsession/processes/").content.decode()
    out = StringIO()
    call_command("mcp_sessions", "nodes", stdout=out)
    for process in processes:
        assert f'<td data-label="Process">{process.pid}</td>' in page
        assert f"  {process.pid}  " in out.getvalue()
    assert (
        "/admin/mcp_sessions/mcpsession/processes/"
        in browser.get("/admin/mcp_sessions/mcpsession/").content.decode()
    )


@pytest.mark.django_db
def test_users_who_may_not_see_sessions_see_no_processes() -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("clerk", is_staff=True))
    assert browser.get("/admin/mcp_sessions/mcpsession/processes/").status_code == 403
