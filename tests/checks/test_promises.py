"""W010: values that break what the guarantees say."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:6379/1"}}


def warned_of(**values: Any) -> list[str]:
    """What W010 says about an entry with these values; any other message is a failure."""
    with override_settings(
        MCP_SESSIONS={"default": {"SERVER": "project.mcp.server", **values}}, CACHES=CACHES
    ):
        messages = run_checks(tags=["mcp_sessions"])
    assert {message.id for message in messages} <= {"mcp_sessions.W010"}
    return [str(message.msg) for message in messages]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"STREAM_TTL": 29.9}, "STREAM_TTL"),
        ({"GRACE": 15.1}, "GRACE"),
        ({"RETRY": 0.09}, "RETRY"),
        ({"STREAM_MAX_AGE": 14}, "STREAM_MAX_AGE"),
        ({"MAX_REQUESTS": 9, "MAX_REQUESTS_PER_SESSION": 10}, "MAX_REQUESTS_PER_SESSION"),
        ({"MAX_STREAMS": 9, "MAX_STREAMS_PER_SESSION": 10}, "MAX_STREAMS_PER_SESSION"),
        ({"MAX_SESSIONS": 9, "MAX_SESSIONS_PER_PRINCIPAL": 10}, "MAX_SESSIONS_PER_PRINCIPAL"),
    ],
)
def test_a_value_that_breaks_a_guarantee_is_named(values: dict[str, Any], key: str) -> None:
    [said] = warned_of(**values)
    assert said.startswith(f"MCP_SESSIONS['default']: {key} ({values[key]:g}) is ")


@pytest.mark.parametrize(
    "values",
    [
        {"STREAM_TTL": 30, "GRACE": 15, "RETRY": 0.1, "STREAM_MAX_AGE": 15},
        {"GRACE": 60, "RESPONSE": "json"},
        {"MAX_REQUESTS": 10, "MAX_REQUESTS_PER_SESSION": 10},
        {"MAX_STREAMS": 10, "MAX_STREAMS_PER_SESSION": 10},
        {"MAX_SESSIONS": 10, "MAX_SESSIONS_PER_PRINCIPAL": 10},
        {"MAX_SESSIONS": None, "MAX_SESSIONS_PER_PRINCIPAL": 10},
        {"MAX_SESSIONS": 10, "MAX_SESSIONS_PER_PRINCIPAL": None},
    ],
)
def test_values_at_the_bound_are_not(values: dict[str, Any]) -> None:
    assert warned_of(**values) == []
