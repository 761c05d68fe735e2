"""In the place of the store, where a request is served without it: all is refused at once, in words for people."""

import pytest

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.absent import AbsentStore, WithoutStore


async def test_it_refuses_everything_in_words_for_people() -> None:
    store = AbsentStore()
    assert store.shared
    for refused in (
        store.run(nodes.list_nodes()),
        store.run_all([nodes.list_nodes()]),
        store.listen("a", after="0-0", block_ms=1),
    ):
        with pytest.raises(
            WithoutStore, match=r"session store.*cannot be reached at the moment. Try again later"
        ):
            await refused
    await store.aclose()
