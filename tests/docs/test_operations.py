"""docs/operations.md can be followed: its configurations make clients, its commands have the options it gives them."""

import re
import shlex
import tomllib
from collections import Counter
from datetime import timedelta
from typing import Any, Final

import pytest
from django.core.management import load_command_class
from django.test import override_settings
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from uvicorn.main import main as uvicorn_command

from mcp_sessions import conf
from mcp_sessions.conf import rules
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.daphne import CommandLineInterface
from mcp_sessions.store.clients import ClusterConnectionFactory, make_async_client
from tests.docs import markdown
from tests.support import ROOT

PAGE: Final = "operations.md"


def caches_under(heading: str) -> dict[str, Any]:
    """CACHES of the section with that heading."""
    [block] = markdown.blocks(markdown.section(markdown.read(PAGE), heading), "python")
    names: dict[str, Any] = {}
    exec(block.code, names)  # noqa: S102 - our own document
    return dict(names["CACHES"])


def commands(program: str) -> list[list[str]]:
    """The commands on the page that begin with `begin`, each without it."""
    lines = re.findall(rf"^\$ {re.escape(program)} (.+)$", markdown.read(PAGE), re.MULTILINE)
    assert lines
    return [shlex.split(line) for line in lines]


async def test_the_standalone_configuration_makes_a_client_with_its_time_outs() -> None:
    with override_settings(CACHES=caches_under("Standalone")):
        client = make_async_client("sessions")
    assert isinstance(client, Redis)
    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["socket_timeout"], options["socket_connect_timeout"]) == (
        "redis.example.com",
        1,
        0.5,
    )
    await client.aclose()


async def test_the_sentinel_configuration_makes_a_client_that_asks_the_sentinels() -> None:
    with override_settings(CACHES=caches_under("Sentinel")):
        client = make_async_client("sessions")
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "sessions"
    assert len(pool.sentinel_manager.sentinels) == 3
    await client.aclose()


async def test_the_cluster_configuration_makes_a_client_of_the_cluster() -> None:
    with override_settings(CACHES=caches_under("Cluster")):
        client = make_async_client("sessions")
    assert isinstance(client, ClusterNodes)
    assert [host for host, _ in client.startup] == ["node-1", "node-2", "node-3"]
    await client.aclose()


def test_the_sync_side_of_the_cluster_is_ours_by_the_name_on_the_page() -> None:
    path = caches_under("Cluster")["sessions"]["OPTIONS"]["CONNECTION_FACTORY"]
    assert path == f"{ClusterConnectionFactory.__module__}.{ClusterConnectionFactory.__qualname__}"


def test_the_sessions_commands_are_ones_that_the_program_takes() -> None:
    with override_settings(MCP_SESSIONS={"default": {"SERVER": "shop.mcp.server"}}):
        parser = load_command_class("mcp_sessions", "mcp_sessions").create_parser("manage.py", "mcp_sessions")
        names = [
            parser.parse_args(arguments).subcommand for arguments in commands("python manage.py mcp_sessions")
        ]
    assert Counter(names) == {
        "list": 3,
        "show": 1,
        "expire": 3,
        "jobs": 2,
        "nodes": 1,
        "stats": 1,
        "tools": 1,
        "watch": 1,
        "doctor": 1,
        "block": 3,
        "blocks": 1,
        "unblock": 1,
    }


def test_the_servers_take_the_options_that_the_page_gives_them() -> None:
    [ours] = commands("python -m mcp_sessions.daphne")
    assert CommandLineInterface().parser.parse_args(ours).application == "mysite.asgi:application"
    [theirs] = commands("uvicorn")
    known = {option for parameter in uvicorn_command.params for option in parameter.opts}
    assert {word for word in theirs if word.startswith("--")} <= known


def test_the_servers_are_compared_by_what_the_benchmarks_measured() -> None:
    section = markdown.section(markdown.read("benchmarks.md"), "`tools/call`, 1 session")
    measured = {(row[0], row[1]): row[2].split()[0] for row in markdown.table(section, "server")}
    [said] = re.findall(
        r"^\| `tools/call` per second.*\| (.+) \| (.+) \|$", markdown.read(PAGE), re.MULTILINE
    )
    for figures, server in zip(said, ("daphne", "uvicorn"), strict=True):
        known = [measured[f"this app, Redis ({server})", clients] for clients in ("16", "64")]
        assert figures.split(" and ") == known


def test_what_the_readme_says_of_a_setting_is_so() -> None:
    endpoint = conf.Endpoint(alias="default", server="shop.mcp.server")
    in_words = {
        timedelta(hours=1): "one hour",
        timedelta(days=1): "one day",
        None: "none",
        100_000: "100,000",
        rules.ERAS: "both",
        (): "none",
    }
    for name, default, _ in markdown.table(markdown.read("README.md"), "Setting"):
        value = getattr(endpoint, conf.KEYS[name.strip("`")])
        if name.strip("`") in rules.DURATIONS:
            assert default == in_words[timedelta(seconds=value)]
        elif name not in ("`SERVER`", "`NAMESPACE`"):
            assert default in (in_words.get(value), f'`"{value}"`'), name


def test_the_readme_asks_for_the_versions_that_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = markdown.read("README.md").replace("\n", " ")
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in readme
    [django] = [each for each in project["dependencies"] if each.startswith("django>=")]
    assert f"Django {django.removeprefix('django>=').split(',')[0]} or newer" in readme


@pytest.mark.parametrize("document", markdown.documents())
def test_every_block_of_python_can_be_parsed(document: str) -> None:
    for block in markdown.blocks(markdown.read(document), "python"):
        compile(block.code, f"{document}:{block.line}", "exec")


@pytest.mark.parametrize("document", markdown.documents())
def test_every_name_of_ours_in_a_document_is_there(document: str) -> None:
    for name in set(re.findall(r"\bmcp_sessions(?:\.[a-z_]\w*)+", markdown.read(document))):
        assert exists(name), name


def exists(name: str) -> bool:
    """Whether it is a module, or in one."""
    from importlib import import_module

    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        return hasattr(import_module(module), attribute)
    return True
