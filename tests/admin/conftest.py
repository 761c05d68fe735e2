"""Endpoints without sessions, over a real Redis, and the browsers of staff."""

import pytest
from django.conf import LazySettings
from django.test import Client

from tests.admin.pages import endpoint, on_redis, staff
from tests.support.redis import RedisServer


@pytest.fixture
def one_endpoint(settings: LazySettings, redis_server: RedisServer) -> None:
    """One endpoint without sessions."""
    settings.CACHES = on_redis(redis_server.url)
    settings.MCP_SESSIONS = {"default": endpoint()}


@pytest.fixture
def two_endpoints(settings: LazySettings, one_endpoint: None) -> None:
    settings.MCP_SESSIONS = {"shop": endpoint(), "stock": endpoint(PATH="stock")}


@pytest.fixture
def viewer() -> Client:
    return staff("view_mcpsession", "view_session_state", name="viewer")


@pytest.fixture
def operator() -> Client:
    return staff("view_mcpsession", "expire_session", name="operator")
