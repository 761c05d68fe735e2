"""Caps on open sessions: who is refused, how, and who is not disturbed."""

from pathlib import Path

import pytest

from tests.support.mcp_client import RawClient
from tests.support.processes import serving_everything
from tests.support.redis import RedisServer


def test_at_the_cap_a_new_session_is_refused_and_the_others_go_on(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with serving_everything(tmp_path, redis_server.url, MCP_MAX_SESSIONS="2") as (a, b):
        first, second, third = RawClient(), RawClient(), RawClient()
        first.initialize(a.url)
        second.initialize(b.url)
        for process in (a, b):
            refused = third.post(process.url, third.initialize_message())
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["error"]["code"] == -32603
            assert "mcp-session-id" not in refused.headers
        assert first.value(b.url, "add", a=1, b=1) == 2
        assert second.delete(a.url).status_code == 204
        third.initialize(a.url)
        assert third.value(b.url, "add", a=1, b=1) == 2


@pytest.mark.protocol("H25")
def test_two_services_on_one_redis_never_see_each_others_sessions(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "desk").mkdir()
    with (
        serving_everything(tmp_path / "shop", redis_server.url, count=1) as (shop,),
        serving_everything(tmp_path / "desk", redis_server.url, count=1) as (desk,),
    ):
        client = RawClient()
        client.initialize(shop.url)
        assert client.post(desk.url, client.request("ping")).status_code == 404
        assert client.delete(desk.url).status_code == 404
        assert client.value(shop.url, "add", a=1, b=1) == 2
