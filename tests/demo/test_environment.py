"""The demo's settings from the environment: what is read, and what is refused in a sentence."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import conf
from project import environment
from project.endpoint import READERS, endpoint_from_environment
from tests.support import ROOT


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """Import the settings in a process with just these variables."""
    return subprocess.run(
        [sys.executable, "-c", "import project.settings as s; print(s.CACHES, s.DATABASES, s.MCP_SESSIONS)"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_secret_key_nothing_starts_outside_debug() -> None:
    refused = start(DJANGO_ALLOWED_HOSTS="example.com")

    assert refused.returncode == 1
    assert "DJANGO_SECRET_KEY is not set. Give every process the same long random value." in refused.stderr


def test_without_allowed_hosts_nothing_starts_outside_debug() -> None:
    refused = start(DJANGO_SECRET_KEY="secret")

    assert refused.returncode == 1
    assert "DJANGO_ALLOWED_HOSTS is not set." in refused.stderr


def test_while_debugging_nothing_has_to_be_set() -> None:
    started = start(DJANGO_DEBUG="1")

    assert started.returncode == 0, started.stderr
    assert "locmem" in started.stdout
    assert "sqlite3" in started.stdout


def test_the_urls_of_the_database_and_of_redis_are_taken_over() -> None:
    started = start(
        DJANGO_DEBUG="1", DATABASE_URL="postgres://me:pw@db:5433/library", REDIS_URL="redis://cache:6380/2"
    )

    assert started.returncode == 0, started.stderr
    assert "'HOST': 'db'" in started.stdout
    assert "'PORT': 5433" in started.stdout
    assert "'LOCATION': 'redis://cache:6380/2'" in started.stdout


def test_every_setting_of_an_endpoint_has_its_variable() -> None:
    assert set(READERS) == set(conf.KEYS)


def test_what_is_not_set_keeps_the_default_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in READERS:
        monkeypatch.delenv(f"MCP_{key}", raising=False)
    monkeypatch.setenv("MCP_IDLE_TTL", "90.5")
    monkeypatch.setenv("MCP_MAX_SESSIONS", "none")
    monkeypatch.setenv("MCP_ERAS", "handshake, modern")
    monkeypatch.setenv("MCP_ALLOWED_ORIGINS", "https://a.example, https://b.example")

    assert endpoint_from_environment() == {
        "SERVER": "project.mcp.server",
        "NAMESPACE": "demo",
        "ERAS": ["handshake", "modern"],
        "IDLE_TTL": 90.5,
        "MAX_SESSIONS": None,
        "ALLOWED_ORIGINS": ["https://a.example", "https://b.example"],
    }


@pytest.mark.parametrize(
    ("parse", "value", "expected"),
    [
        (environment.boolean, "maybe", "1 or 0"),
        (environment.seconds, "an hour", "a number of seconds"),
        (environment.count, "many", "a whole number"),
        (environment.cap, "many", "a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, parse: environment.Parser, value: str, expected: str
) -> None:
    monkeypatch.setenv("MCP_EXAMPLE", value)

    with pytest.raises(ImproperlyConfigured, match=f"MCP_EXAMPLE must be {expected}, not '{value}'"):
        environment.read("MCP_EXAMPLE", parse, None)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("Yes", True), ("off", False), ("", None)])
def test_booleans_are_read_in_any_usual_spelling(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: bool | None
) -> None:
    monkeypatch.setenv("MCP_EXAMPLE", value)

    assert environment.read("MCP_EXAMPLE", environment.boolean, None) is expected


@pytest.mark.parametrize("value", ["2026-11-26T19:30:00", "yesterday", "1796000000"])
def test_a_moment_needs_its_offset(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MCP_MIN_CREATED", value)
    with pytest.raises(ImproperlyConfigured, match="MCP_MIN_CREATED must be a moment with its offset"):
        endpoint_from_environment()


def test_the_moment_before_which_no_session_counts_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_MIN_CREATED", "2026-11-26T19:30:00+01:00")
    moment = endpoint_from_environment()["MIN_CREATED"]
    assert moment == datetime(2026, 11, 26, 18, 30, tzinfo=UTC)
