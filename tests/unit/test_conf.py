"""The settings: what an entry becomes, what is refused, and that they are read live."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from mcp_sessions import conf
from mcp_sessions.conf.rates import Limit, Rate
from mcp_sessions.documentation import page


def entry(**values: Any) -> dict[str, Any]:
    return {"SERVER": "shop.mcp.server", **values}


def endpoint(**values: Any) -> conf.Endpoint:
    with override_settings(MCP_SESSIONS={"default": entry(**values)}):
        return conf.endpoint("default")


def test_an_endpoint_needs_only_a_server() -> None:
    default = endpoint()
    assert default.server == "shop.mcp.server"
    assert default.path == "mcp"
    assert default.cache == "default"
    assert default.response == "auto"
    assert default.eras == ("handshake", "modern")


def test_the_namespace_is_the_entrys_key_unless_it_says_otherwise() -> None:
    assert endpoint().namespace == "default"
    assert endpoint(NAMESPACE="shop").namespace == "shop"


def test_every_key_of_an_entry_is_a_field_of_the_endpoint() -> None:
    values: dict[str, Any] = {
        "SERVER": "stock.mcp.server",
        "PATH": "stock",
        "ERAS": ["modern"],
        "CACHE": "sessions",
        "NAMESPACE": "stock",
        "IDLE_TTL": 1,
        "MAX_AGE": 2,
        "FIRST_TTL": 3,
        "ON_MISS": "revive",
        "MIN_CREATED": datetime(2026, 11, 26, tzinfo=UTC),
        "ON_STORE_DOWN": "serve",
        "RESPONSE": "sse",
        "GRACE": 0,
        "MAX_SESSIONS": 5,
        "MAX_SESSIONS_PER_PRINCIPAL": 6,
        "MAX_BODY": 7,
        "STATE_MAX_BYTES": 8,
        "ALLOWED_ORIGINS": ["https://app.example.com"],
        "REQUEST_TIMEOUT": 9,
        "TOKEN_VERIFIER": "shop.tokens.Verifier",
        "ISSUER_URL": "https://id.example.com",
        "RESOURCE_URL": "https://shop.example.com/mcp",
        "REQUIRED_SCOPES": ["shop"],
        "VALIDATE_TOKEN_RESOURCE": False,
    }
    with override_settings(MCP_SESSIONS={"default": values}):
        configured = conf.endpoint("default")
    assert {key: getattr(configured, field) for key, field in conf.KEYS.items() if key in values} == values


def test_durations_are_numbers_or_timedeltas() -> None:
    timed = endpoint(IDLE_TTL=timedelta(minutes=2), MAX_AGE=90.5, GRACE=0)
    assert (timed.idle_ttl, timed.max_age, timed.grace) == (120, 90.5, 0)


def test_the_store_gets_its_limits_in_milliseconds() -> None:
    limits = endpoint(IDLE_TTL=1.5, MAX_AGE=timedelta(seconds=3), FIRST_TTL=0.001, MAX_SESSIONS=None).limits
    assert (limits.idle_ms, limits.max_age_ms, limits.first_ms) == (1500, 3000, 1)
    assert limits.max_sessions is None


def test_the_store_gets_the_caps_of_sessions_as_they_are() -> None:
    limits = endpoint(MAX_SESSIONS=7, MAX_SESSIONS_PER_PRINCIPAL=3, INDEX_SHARDS=5).limits
    assert (limits.max_sessions, limits.max_sessions_per_principal, limits.shards) == (7, 3, 5)
    assert endpoint(MAX_SESSIONS_PER_PRINCIPAL=None).limits.max_sessions_per_principal is None


@pytest.mark.parametrize(
    ("idle_ttl", "interval_ms"),
    [(1, 5_000), (300, 5_000), (300.06, 5_001), (3599.9, 59_998), (3600, 60_000), (86_400, 60_000)],
)
def test_the_place_of_a_record_in_the_indexes_is_updated_60_times_while_it_may_be_idle(
    idle_ttl: float, interval_ms: int
) -> None:
    assert endpoint(IDLE_TTL=idle_ttl).limits.index_ms == interval_ms


def test_the_store_gets_what_a_stream_keeps() -> None:
    stream = endpoint(STREAM_MAX_EVENTS=7, STREAM_MAX_BYTES=900, STREAM_TTL=1.5).stream_limits
    assert (stream.max_events, stream.max_bytes, stream.ttl_ms) == (7, 900, 1500)


def test_the_moment_before_which_no_session_is_valid_is_in_milliseconds() -> None:
    moment = datetime(1970, 1, 1, 0, 0, 2, 500_400, tzinfo=timezone(timedelta(seconds=1)))
    assert endpoint(MIN_CREATED=moment).min_created_ms == 1500
    assert endpoint().min_created_ms == 0


def test_rate_limits_are_by_what_they_count() -> None:
    assert endpoint(RATE_LIMITS={"requests per address": "3/10s"}).rates == {
        "requests": (Limit("requests", "address", Rate(3, 10_000)),)
    }
    assert endpoint().rates == {}


def test_the_indexes_are_spread_on_a_cluster_whose_cache_may_change() -> None:
    caches = {
        "default": {"OPTIONS": {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"}}
    }
    with override_settings(MCP_SESSIONS={"default": entry(), "one": entry(INDEX_SHARDS=1)}):
        assert conf.endpoint("default").limits.shards == 1
        with override_settings(CACHES=caches):
            assert conf.endpoint("default").limits.shards == 16
            assert conf.endpoint("one").limits.shards == 1
        assert conf.endpoint("default").limits.shards == 1


def test_an_endpoint_does_not_print_its_keys_or_what_follows_from_its_settings() -> None:
    printed = repr(endpoint(ENCRYPTION_KEYS=["hunter" * 6], RATE_LIMITS={"requests per address": "3/s"}))
    assert "hunter" not in printed
    assert "rate_limits={'requests per address': '3/s'}" in printed
    assert not any(f", {name}=" in printed for name in ("limits", "stream_limits", "rates", "min_created_ms"))


@pytest.mark.parametrize("path", ["mcp", "/mcp", "mcp/", "/mcp/"])
def test_slashes_around_the_path_are_not_part_of_it(path: str) -> None:
    assert endpoint(PATH=path).path == "mcp"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SERVER", None),
        ("SERVER", ""),
        ("PATH", 3),
        ("CACHE", ""),
        ("NAMESPACE", ""),
        ("NAMESPACE", "two words"),
        ("NAMESPACE", "{shop}"),
        ("IDLE_TTL", 0),
        ("IDLE_TTL", -1),
        ("IDLE_TTL", None),
        ("IDLE_TTL", True),
        ("IDLE_TTL", "3600"),
        ("IDLE_TTL", float("inf")),
        ("IDLE_TTL", float("nan")),
        ("IDLE_TTL", 1e300),
        ("MAX_AGE", timedelta(0)),
        ("USER_STATE_TTL", timedelta(days=366)),
        ("CONVERSATION_KEYS", "threadId"),
        ("MAX_HANDLES", 0),
        ("FIRST_TTL", 0.0004),
        ("FIRST_TTL", timedelta(seconds=-1)),
        ("REQUEST_TIMEOUT", 0),
        ("GRACE", -0.1),
        ("ERAS", []),
        ("ERAS", ["legacy"]),
        ("ERAS", "modern"),
        ("END_ON", ["login"]),
        ("END_ON", "logout"),
        ("AUDIT_RETENTION", 0),
        ("ON_MISS", "reopen"),
        ("ON_MISS", None),
        ("MIN_CREATED", datetime(2026, 11, 26)),  # noqa: DTZ001 - without an offset
        ("MIN_CREATED", "2026-11-26T00:00:00+00:00"),
        ("ON_STORE_DOWN", "404"),
        ("ON_STORE_DOWN", 503),
        ("RESPONSE", "stream"),
        ("RESPONSE", None),
        ("RESPONSE", ["auto"]),
        ("MAX_SESSIONS", 0),
        ("MAX_SESSIONS", True),
        ("MAX_SESSIONS", 1.5),
        ("MAX_SESSIONS_PER_PRINCIPAL", "100"),
        ("MAX_BODY", None),
        ("STATE_MAX_BYTES", -1),
        ("ALLOWED_ORIGINS", "https://app.example.com"),
        ("ALLOWED_ORIGINS", [1]),
        ("REQUIRED_SCOPES", None),
        ("TOKEN_VERIFIER", ""),
        ("ISSUER_URL", 1),
        ("VALIDATE_TOKEN_RESOURCE", 1),
        ("JWKS_URL", "http://id.example.com/keys"),
        ("JWKS_URL", "ftp://localhost/keys"),
        ("JWKS_URL", "https:///keys"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"MCP_SESSIONS\['default'\]\['{key}'\] must be .*not "):
        endpoint(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MAX_SESSIONS", None),
        ("MAX_SESSIONS_PER_PRINCIPAL", None),
        ("MAX_HANDLES", None),
        ("CONVERSATION_KEYS", ["threadId"]),
        ("TOKEN_VERIFIER", None),
        ("ALLOWED_ORIGINS", ()),
        ("REQUIRED_SCOPES", {"shop"}),
        ("NAMESPACE", "team-a:shop_1.2"),
        ("JWKS_URL", "https://id.example.com/keys"),
        ("JWKS_URL", "http://[::1]:8080/keys"),
    ],
)
def test_a_value_that_fits_is_taken_as_it_is(key: str, value: object) -> None:
    assert getattr(endpoint(**{key: value}), conf.KEYS[key]) == value


def test_every_mistake_of_an_entry_is_in_one_message() -> None:
    with (
        override_settings(MCP_SESSIONS={"default": {"SEVER": "shop.mcp.server", "MAX_BODY": "4M"}}),
        pytest.raises(ImproperlyConfigured) as refused,
    ):
        conf.endpoint("default")
    assert str(refused.value) == (
        f"MCP_SESSIONS['default'] has the unknown key 'SEVER'. The known keys are {', '.join(sorted(conf.KEYS))}. "
        "MCP_SESSIONS['default'] needs SERVER, the dotted path of an MCP server. "
        "MCP_SESSIONS['default']['MAX_BODY'] must be an integer above 0, not '4M'. "
        f"{page('settings', 'the-keys-of-an-endpoint')}"
    )


def test_a_key_that_cannot_be_a_namespace_asks_for_one() -> None:
    with (
        override_settings(MCP_SESSIONS={"two words": entry()}),
        pytest.raises(ImproperlyConfigured, match=r"\['NAMESPACE'\] must be letters"),
    ):
        conf.endpoint("two words")
    with override_settings(MCP_SESSIONS={"two words": entry(NAMESPACE="one")}):
        assert conf.endpoint("two words").namespace == "one"


@pytest.mark.parametrize("entries", [{}, {"shop": entry(), "other": entry()}, {"default": None}])
def test_a_missing_entry_is_named_beside_those_that_there_are(entries: dict[str, Any]) -> None:
    with override_settings(MCP_SESSIONS=entries), pytest.raises(ImproperlyConfigured) as refused:
        conf.endpoint("default")
    assert str(refused.value) == (
        f"MCP_SESSIONS has no dictionary under 'default'; it has {sorted(entries)}."
    )


def test_settings_that_are_not_a_dictionary_are_refused() -> None:
    with (
        override_settings(MCP_SESSIONS=["default"]),
        pytest.raises(ImproperlyConfigured, match="must be a dictionary of endpoints, like CACHES"),
    ):
        conf.aliases()


def test_a_changed_setting_holds_from_the_next_read_on() -> None:
    assert endpoint(IDLE_TTL=10).idle_ttl == 10
    assert endpoint(IDLE_TTL=20).idle_ttl == 20


def test_unchanged_settings_give_the_same_object() -> None:
    with override_settings(MCP_SESSIONS={"default": entry()}):
        assert conf.endpoint("default") is conf.endpoint("default")


def test_the_aliases_are_the_keys_in_their_order() -> None:
    with override_settings(MCP_SESSIONS={"shop": entry(), "default": entry()}):
        assert conf.aliases() == ("shop", "default")


def test_a_project_without_the_setting_has_no_endpoints() -> None:
    with override_settings():
        from django.conf import settings

        del settings.MCP_SESSIONS
        assert conf.aliases() == ()
