"""A personal token that is revoked is refused at once on every process, and what is open with it ends."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import ROOT
from tests.support.mcp_client import META, MODERN, RawClient, messages
from tests.support.processes import ENVIRONMENT, Process, daphnes, wait_until
from tests.support.redis import RedisServer

#: Makes the tables, the users, and the first token, in one process.
PREPARE = """
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from mcp_sessions.tokens import create_token
call_command("migrate", verbosity=0)
User.objects.create(username="ann")
print(create_token(User.objects.create(username="root"), scopes="mcp")[1])
"""
Manage = Callable[..., str]
#: Seconds within which a stream ends whose token was revoked: it is looked at every second.
BOUND = 3.0


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two processes that want personal tokens, and a database with Ann."""
    directory = tmp_path_factory.mktemp("revoking")
    with daphnes(
        2,
        directory,
        REDIS_URL=redis_server.url,
        MCP_SERVER="tests.served.whoami.server",
        MCP_NAMESPACE=directory.name,
        MCP_AUTHENTICATION="personal-token",
        MCP_REQUIRED_SCOPES="mcp",
        MCP_REVOKE_ENDS_SESSIONS="1",
        MCP_MAX_SESSIONS_PER_PRINCIPAL="none",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def root(processes: list[Process]) -> RawClient:
    """A client with a personal token of its own, which runs commands on the first process."""
    command = [sys.executable, "-c", PREPARE]
    environment = os.environ | ENVIRONMENT | processes[0].environment
    made = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    client = RawClient(token=made.stdout.strip())
    client.initialize(processes[0].url)
    return client


@pytest.fixture
def manage(root: RawClient, a: str) -> Manage:
    """Run a command of manage.py; what it printed."""
    return lambda *arguments: str(root.value(a, "manage", arguments=list(arguments)))


@pytest.fixture
def token(manage: Manage) -> str:
    """The text of a new token of Ann's."""
    return manage("mcp_sessions", "token", "create", "ann", "--scope", "mcp")


def test_what_is_open_with_a_revoked_token_ends_on_every_process(
    manage: Manage, a: str, b: str, token: str
) -> None:
    client, other = RawClient(token=token), RawClient(token=token)
    client.initialize(a)
    wanted = {"notifications": {"toolsListChanged": True}, "_meta": META}
    listen = other.request("subscriptions/listen", wanted)
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    with client.get(a) as stream, other.stream(b, listen, **headers) as listener:
        heard = messages(listener)
        assert next(heard)["method"] == "notifications/subscriptions/acknowledged"
        said = manage("mcp_sessions", "token", "revoke", token)
        revoked = time.monotonic()
        assert said.endswith("revoked, 1 sessions ended")
        for url in (a, b):
            assert client.post(url, client.request("ping")).status_code == 401
        stream.read()
        *_, last = heard
        assert time.monotonic() - revoked < BOUND
    assert last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == listen["id"]
    client.token = manage("mcp_sessions", "token", "create", "ann", "--scope", "mcp")
    assert client.post(a, client.request("ping")).status_code == 404, "its session has ended, too"
    listed = manage("mcp_sessions", "token", "list")
    assert token not in listed
    assert token[:13] in listed


def test_a_new_token_of_the_same_user_keeps_the_session(manage: Manage, a: str, b: str, token: str) -> None:
    client = RawClient(token=token)
    client.initialize(a)
    client.token = manage("mcp_sessions", "token", "create", "ann", "--scope", "mcp read")
    found = client.call(b, "whoami")["result"]["structuredContent"]
    assert found["name"] == "ann"
    assert client.value(b, "whoami_in_a_thread") == "ann"
    assert client.value(b, "name_of_the_session") == "ann"


def test_no_request_that_begins_after_the_end_of_a_token_is_answered(
    manage: Manage, a: str, b: str, token: str
) -> None:
    """Requests race a revocation, on both processes and with sessions of their own."""
    over = threading.Event()
    late: list[int] = []
    early: list[int] = []

    def ask(url: str) -> None:
        client = RawClient(token=token)
        while True:
            begun_after = over.is_set()
            response = client.post(url, client.initialize_message())
            (late if begun_after else early).append(response.status_code)
            if len(late) >= 400 or (begun_after and response.status_code == 401):
                return

    threads = [threading.Thread(target=ask, args=(url,)) for url in (a, b) * 4]
    for thread in threads:
        thread.start()
    wait_until(lambda: early.count(200) > 40, what="answers")
    manage("mcp_sessions", "token", "revoke", token)
    over.set()
    for thread in threads:
        thread.join()
    assert set(late) == {401}
    assert set(early) <= {200, 401}


def test_the_text_of_a_token_is_nowhere(processes: list[Process], a: str, token: str) -> None:
    RawClient(token=token).initialize(a)
    secret = token[14:].encode()
    written = [path for path in processes[0].log.parent.iterdir() if path.is_file()]
    assert len(written) >= 3, "the database and two logs"
    for path in written:
        assert secret not in path.read_bytes()
