"""Streams of dead processes, when the store goes away at the worst moment."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.streams.orphans import Orphans


@pytest.mark.parametrize("request_", [{"id": 1, "method": "tools/call", "params": {}}, {"id": 1}])
async def test_a_stream_that_cannot_be_ended_now_is_ended_later(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr("mcp_sessions.streams.retry.GIVE_UP_SECONDS", 0)
    context: Any = SimpleNamespace(
        node=SimpleNamespace(id="me"),
        store=SimpleNamespace(run=away),
        conf=lambda: Endpoint(alias="default", server="shop.mcp.server", rerun_lost_calls=True),
    )
    reader: Any = SimpleNamespace(
        fingerprint="f" * 64, stream="s", origin="dead", request=json.dumps(request_), after=0
    )
    no_readers: Any = ()

    await Orphans(context, no_readers, run_again=away)._end(reader)

    assert reader.origin == "dead"
