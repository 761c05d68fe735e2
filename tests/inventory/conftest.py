"""Endpoints whose stores are lists."""

from typing import Any

import pytest

from tests.inventory.stores import ListedStore, Stores, fake_call, fake_operation, session


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Stores:
    """One endpoint with 120 sessions; a test may add endpoints."""
    stores = Stores({"default": ListedStore([session(n) for n in range(120)])})
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    monkeypatch.setattr("mcp_sessions.inventory.listing.sync_store_for", stores.__getitem__)
    for name in ("page", "find", "entries", "records"):
        monkeypatch.setattr(f"mcp_sessions.store.calls.queries.{name}", fake_operation(name))
    monkeypatch.setattr("mcp_sessions.store.calls.sessions.get", fake_call("get"))
    monkeypatch.setattr("mcp_sessions.store.calls.recent.read", fake_call("recent"))
    return stores


@pytest.fixture
def two(stores: Stores, settings: Any) -> Stores:
    """Two endpoints whose sessions alternate in time."""
    stores.by_alias = {
        "even": ListedStore([session(n) for n in range(0, 20, 2)]),
        "odd": ListedStore([session(n) for n in range(1, 20, 2)]),
    }
    settings.MCP_SESSIONS = {"even": {"SERVER": "unused"}, "odd": {"SERVER": "unused", "PATH": "odd"}}
    return stores
