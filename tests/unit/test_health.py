"""What readiness asks of the session stores."""

from unittest import mock

import pytest
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
