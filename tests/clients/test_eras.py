"""Clients as they are without options: which era they ask for, and that ERAS = ["handshake"] gives each a session."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import LazySettings

from mcp_sessions.ending import end_sessions
from mcp_sessions.ids import fingerprint
from tests.clients.driven import ClientError, DrivenClient, driven
from tests.clients.inspector import inspect
from tests.clients.known import Known
from tests.support.mcp_client import LATEST, MODERN
from tests.support.processes import Process, daphnes
from tests.support.proxies import Switch
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.clients, pytest.mark.slow]

#: Of the process that serves the handshake era only.
NAMESPACE: Final = "one-era"


@pytest.fixture(scope="module")
def handshake_only(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    environment = {
        "REDIS_URL": redis_server.url,
        "MCP_SERVER": "tests.served.clients.server",
        "MCP_NAMESPACE": NAMESPACE,
        "MCP_ERAS": "handshake",
    }
    with daphnes(1, tmp_path_factory.mktemp("eras"), **environment) as [process]:
        yield process


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The same server twice. Each is behind a switch of the test's own, which sees the requests."""

    both: Switch
    handshake: Switch


@pytest.fixture
def endpoints(processes: tuple[Process, Process], handshake_only: Process) -> Iterator[Endpoints]:
    with Switch(processes[0]) as both, Switch(handshake_only) as handshake:
        yield Endpoints(both=both, handshake=handshake)


@pytest.fixture
def force_expire(redis_server: RedisServer, settings: LazySettings) -> Any:
    """What the admin and the shell do, from outside the server's process."""
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}}
    entry = {"SERVER": "tests.served.clients.server", "NAMESPACE": NAMESPACE}
    settings.MCP_SESSIONS = {"default": entry}

    def expire(session_id: str) -> None:
        digest = fingerprint(session_id)
        assert end_sessions("default", [digest]) == {digest}

    return expire


@pytest.mark.protocol("M6", "M7")
def test_a_client_finds_its_era_and_with_the_setting_a_session(
    known: Known, endpoints: Endpoints, force_expire: Any, tmp_path: Path
) -> None:
    with driven(known.command(), tmp_path) as client:
        version = client.open(f"{endpoints.both.url}/mcp")
        assert asks_modern(endpoints.both) == known.asks_modern
        assert version == (MODERN if known.asks_modern else LATEST)

        url, switch = f"{endpoints.handshake.url}/mcp", endpoints.handshake
        assert client.open(url) == LATEST
        assert asks_modern(switch) == known.asks_modern
        assert remembered(client, "tea") == ["tea"]
        assert remembered(client, "cake") == ["tea", "cake"]

        [session_id] = sessions(switch)
        force_expire(session_id)
        assert goes_on(client) == known.reopens
        assert goes_on(client) == known.reopens
        assert (sessions(switch) != {session_id}) == known.reopens


@pytest.mark.needs("npm")
@pytest.mark.protocol("M6", "M7")
def test_the_inspectors_shell_opens_a_session_for_each_command(endpoints: Endpoints, tmp_path: Path) -> None:
    for switch, commands in ((endpoints.both, 1), (endpoints.handshake, 2)):
        for _ in range(commands):
            said = inspect(f"{switch.url}/mcp", tmp_path, "remember", fact="tea")
            assert said["structuredContent"]["facts"] == ["tea"]
        assert not asks_modern(switch)
        assert len(sessions(switch)) == commands


def asks_modern(switch: Switch) -> bool:
    """Whether the first request was one of the modern era."""
    return switch.served[0].version == MODERN


def sessions(switch: Switch) -> set[str]:
    """The sessions that requests named so far."""
    return {request.session for request in switch.served if request.session}


def remembered(client: DrivenClient, fact: str) -> Any:
    """All facts of the session, with this one."""
    result = client.call("remember", fact=fact)
    assert not result.get("isError"), result
    return json.loads(result["content"][0]["text"])["facts"]


def goes_on(client: DrivenClient) -> bool:
    """Whether a call succeeds, in a session that has forgotten everything."""
    try:
        remembered(client, "milk")
    except ClientError:
        return False
    return True
