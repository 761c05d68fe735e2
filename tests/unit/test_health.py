"""What readiness asks of the session stores."""

from collections.abc import Iterator
from unittest import mock

import pytest
from django.db import DatabaseError, InterfaceError
from django.test import RequestFactory
from pytest_django import Settings

from mcp_sessions import health
from mcp_sessions.errors import StoreUnavailable


def test_a_redis_that_is_silent_is_asked_once_for_all_endpoints_that_share_it(settings: Settings) -> None:
    """Each question may take the whole timeout."""
    server = {"SERVER": "shop.mcp.server", "CACHE": "default"}
    settings.MCP_SESSIONS = {
        "one": {**server, "NAMESPACE": "one"},
        "two": {**server, "NAMESPACE": "two"},
        "three": {**server, "NAMESPACE": "three", "CACHE": "other"},
    }
    with mock.patch.object(health, "nodes_of", side_effect=StoreUnavailable) as asked:
        problems, degraded, notes = health._stores()

    assert [call.args for call in asked.call_args_list] == [(["one"],), (["three"],)]
    assert (degraded, notes) == ([], [])
    assert [alias in problem for alias, problem in zip(("one", "two", "three"), problems, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("in_touch", "lasts", "asked", "expected"),
    [
        (True, False, True, (0, 0)),
        (False, True, False, (0, 1)),  # a store that hangs is not waited for
        (True, True, True, (0, 1)),  # on a Cluster, a part of it
    ],
)
def test_where_sessions_are_served_without_the_store_the_heartbeats_know_whether_it_is_away(
    settings: Settings, in_touch: bool, lasts: bool, asked: bool, expected: tuple[int, int]
) -> None:
    settings.MCP_SESSIONS = {"one": {"SERVER": "shop.mcp.server", "ON_STORE_DOWN": "serve"}}
    runtime = mock.Mock()
    runtime.context.node.is_in_touch, runtime.outage.lasts, runtime.outage.served = in_touch, lasts, 7
    with (
        mock.patch.object(health, "nodes_of", return_value=[]) as nodes,
        mock.patch.object(health, "_serving", return_value=[runtime]),
    ):
        problems, degraded, _ = health._stores()
        nodes.side_effect = StoreUnavailable
        assert len(health._stores()[1]) == 1
    assert nodes.called == asked
    assert (len(problems), len(degraded)) == expected


def test_a_process_that_has_never_reached_its_store_is_not_ready(settings: Settings) -> None:
    """Its address may be wrong."""
    settings.MCP_SESSIONS = {"one": {"SERVER": "shop.mcp.server", "ON_STORE_DOWN": "serve"}}
    with mock.patch.object(health, "nodes_of", side_effect=StoreUnavailable):
        problems, degraded, _ = health._stores()
    assert (len(problems), degraded) == (1, [])


def a_runtime(*, in_touch: bool = True, lasts: bool = False, served: int = 0) -> mock.Mock:
    """What serves an endpoint without its store, which it has reached before."""
    runtime = mock.Mock()
    runtime.context.node.is_in_touch, runtime.outage.lasts, runtime.outage.served = in_touch, lasts, served
    runtime.context.node.has_joined = True
    return runtime


def ready() -> tuple[int, str]:
    answer = health.readyz(RequestFactory().get("/readyz"))
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, answer.content.decode()


@pytest.fixture
def silent_databases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The aliases of databases that do not answer; there is one other."""
    silent: list[str] = []

    def cursor(alias: str) -> mock.Mock:
        error = DatabaseError if alias == "default" else InterfaceError
        return mock.MagicMock(side_effect=error if alias in silent else None)

    class Connections:
        def __iter__(self) -> Iterator[str]:
            return iter(["default", "replica"])

        def __getitem__(self, alias: str) -> mock.Mock:
            return mock.Mock(cursor=cursor(alias))

    monkeypatch.setattr(health, "connections", Connections())
    monkeypatch.setattr(health, "nodes_of", lambda _: [])
    return silent


def test_a_process_that_is_alive_says_so_without_asking_anybody() -> None:
    answer = health.healthz(RequestFactory().get("/healthz"))
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_a_process_is_ready_when_everything_answers(
    settings: Settings, silent_databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MCP_SESSIONS = {"one": {"SERVER": "project.mcp.server"}}
    assert ready() == (200, "ready\n")
    monkeypatch.setattr(health, "nodes_of", lambda _: [mock.Mock(is_stranger=each) for each in (False, True)])
    assert ready() == (200, "ready\nThe nodes of the endpoint 'one' have different SECRET_KEYs.\n")
    silent_databases += ["default", "replica"]
    settings.MCP_SESSIONS = {"one": {"SERVER": "project.mcp.sever"}}
    monkeypatch.setattr(health, "nodes_of", mock.Mock(side_effect=StoreUnavailable))
    status, text = ready()
    assert status == 503
    assert text.startswith(
        "The database 'default' does not answer.\nThe database 'replica' does not answer.\n"
        "The session store of the endpoint 'one' does not answer.\n"
        "MCP_SESSIONS['one']['SERVER'] cannot be imported: "
    )


@pytest.mark.usefixtures("silent_databases")
def test_a_process_that_serves_without_its_store_is_degraded_and_says_how_much_it_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MCP_SESSIONS = {"one": {"SERVER": "project.mcp.server", "ON_STORE_DOWN": "serve"}}
    runtimes = [a_runtime(in_touch=False, served=7), a_runtime(served=5)]
    monkeypatch.setattr("mcp_sessions.serving.runtime.runtimes_of", lambda _: runtimes)
    said = "The session store of the endpoint 'one' does not answer. This process has served 12 requests"
    assert ready() == (200, f"degraded\n{said} without a store.\n")
    for runtime in runtimes:
        runtime.context.node.has_joined = False
    assert ready() == (200, "ready\n"), "nobody has said that it is away"


@pytest.mark.usefixtures("silent_databases")
def test_a_process_that_stops_or_that_an_operator_drains_is_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MCP_SESSIONS = {}
    assert ready() == (200, "ready\n")
    monkeypatch.setattr("mcp_sessions.lifecycle.is_draining", lambda: True)
    assert ready() == (503, "An operator drains this process.\n")
    monkeypatch.setattr("mcp_sessions.lifecycle.is_stopping", lambda: True)
    assert ready() == (503, "This process is stopping.\n")
