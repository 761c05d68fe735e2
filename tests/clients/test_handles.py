"""Handles with every client as it is without options, and with the README's own project, served by two processes."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import LazySettings
from django.core.management import call_command

from tests.clients.driven import driven
from tests.clients.inspector import inspect
from tests.clients.known import Known
from tests.docs import readme
from tests.support import ROOT
from tests.support.mcp_client import LATEST, MODERN
from tests.support.processes import Process, free_port, started, wait_until
from tests.support.proxies import Switch, round_robin
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.clients, pytest.mark.slow]

ENDED: Final = "Error executing tool write: An operator ended this notebook."

#: Calls a tool, and returns its result as the client library gives it.
Call = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The README's project in two processes, and two ways to reach them."""

    a: Process
    b: Process
    #: An nginx that gives A and B a request each in turn.
    balanced: str
    #: What that nginx logs of each request.
    log: Path
    #: Leads where the test says.
    switch: Switch

    @property
    def switched(self) -> str:
        """The endpoint behind the switch."""
        return f"{self.switch.url}/mcp"


@pytest.fixture(scope="module")
def directory(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's project."""
    directory = tmp_path_factory.mktemp("readme")
    _, start_project, name, _ = readme.commands()[1]
    call_command(start_project, name, str(directory))
    readme.write_code(directory, redis_server.url)
    return directory


@pytest.fixture(scope="module")
def processes_and_proxy(directory: Path) -> Iterator[tuple[Process, Process, Process]]:
    a, b = (daphne_of_the_readme(name, directory) for name in "AB")
    with started([a, b]), round_robin([a, b], directory) as proxy:
        yield a, b, proxy


@pytest.fixture
def site(processes_and_proxy: tuple[Process, Process, Process], directory: Path) -> Iterator[Site]:
    a, b, proxy = processes_and_proxy
    with Switch(a) as switch:
        log = directory / "nginx" / "access.log"
        yield Site(a=a, b=b, balanced=f"{proxy.url}/mcp", log=log, switch=switch)


def daphne_of_the_readme(name: str, directory: Path) -> Process:
    """The README's last command on a free port; not started yet."""
    command, port = readme.commands()[3], free_port()
    command[command.index("-p") + 1] = str(port)
    return Process(
        name=name,
        command=(sys.executable, "-m", *command),
        environment={"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": str(ROOT)},
        directory=directory,
        port=port,
        log=directory / f"{name}.log",
        probe="/",
        forked=True,
    )


@pytest.fixture
def expire_last_used(
    redis_server: RedisServer, settings: LazySettings, transactional_db: None
) -> Callable[[], None]:
    """What an operator does at a shell who sees the handle that was used last in the list.

    The handles of anonymous clients are secrets: they are listed by their fingerprints only.
    """
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}}
    settings.MCP_SESSIONS = {"default": {"SERVER": "mysite.mcp.server", "NAMESPACE": "mysite"}}

    def expire() -> None:
        _, last_used, _ = operate("list", "--kind", "handle", "--limit", "1").splitlines()
        fingerprint = last_used.split()[0]
        assert operate("expire", fingerprint).endswith(": ended\n")

    return expire


def operate(*arguments: str) -> str:
    """What `manage.py mcp_sessions` prints."""
    out = StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, skip_checks=True)
    return out.getvalue()


@pytest.mark.needs("nginx")
def test_a_client_uses_handles_on_every_process_until_an_operator_ends_them(
    known: Known, site: Site, expire_last_used: Callable[[], None], tmp_path: Path
) -> None:
    seen = len(site.log.read_text().splitlines())
    with driven(known.command(), tmp_path) as client:
        assert client.open(site.balanced) == (MODERN if known.asks_modern else LATEST)
        assert set(client.tools()) == {"open_notebook", "write", "read", "remember"}
        notebook = value(client.call("open_notebook"))
        counts = [value(client.call("write", notebook=notebook, fact=fact)) for fact in "abcd"]
        assert counts == [1, 2, 3, 4]
        assert bool(client.call("remember", fact="tea").get("isError")) == known.asks_modern
        both = {f"127.0.0.1:{process.port}" for process in (site.a, site.b)}
        wait_until(lambda: posts(site.log, seen) >= both, what="posts on both processes")

        client.open(site.switched)
        assert value(client.call("read", notebook=notebook)) == list("abcd")
        follow_a_notebook(client.call, site, expire_last_used)


@pytest.mark.needs("npm", "nginx")
def test_the_inspectors_shell_passes_a_handle_from_command_to_command(
    site: Site, expire_last_used: Callable[[], None], tmp_path: Path
) -> None:
    follow_a_notebook(partial(inspect, site.switched, tmp_path), site, expire_last_used)


def follow_a_notebook(call: Call, site: Site, expire_last_used: Callable[[], None]) -> None:
    """Open it on A, write on B, write on A after a restart, end it, and be told so by B, which has used it."""
    notebook = value(call("open_notebook"))
    assert last_post(site) == "A"
    site.switch.to = site.b
    assert value(call("write", notebook=notebook, fact="tea")) == 1
    assert last_post(site) == "B"
    site.a.restart()
    site.switch.to = site.a
    assert value(call("write", notebook=notebook, fact="cake")) == 2
    assert last_post(site) == "A"
    expire_last_used()
    site.switch.to = site.b
    result = call("write", notebook=notebook, fact="late")
    assert last_post(site) == "B"
    assert result["isError"]
    assert [content["text"] for content in result["content"]] == [ENDED]


def value(result: Mapping[str, Any]) -> Any:
    """What the tool returned."""
    assert not result.get("isError"), result
    return result["structuredContent"]["result"]


def last_post(site: Site) -> str:
    """The name of the process that got the last POST."""
    return [request.process for request in site.switch.served if request.method == "POST"][-1]


def posts(log: Path, seen: int) -> set[str]:
    """The addresses of the processes that answered a POST, after that many requests."""
    lines = [line.split() for line in log.read_text().splitlines()[seen:]]
    return {address for address, method, *_ in lines if method == "POST"}
