"""The filtered list as a file, and as JSON for programs."""

import csv
import io
import json
from typing import Any

import pytest
from django.test import AsyncClient, Client

from mcp_sessions.admin import exporting
from mcp_sessions.inventory.documents import FIELDS
from tests.admin.pages import LIST, body, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

API = f"{LIST}api/records/"


@pytest.fixture
def exporter() -> Client:
    return staff("view_mcpsession", "export_session", name="exporter")


def content(response: Any) -> str:
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response.streaming_content).decode()


def test_an_export_has_all_that_passes_the_filters(exporter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 7)
    opened = open_sessions([Opened(client=("one", "two")[n % 3 == 0]) for n in range(60)])
    expected = [each.fingerprint for each in reversed(opened) if each.client == "one"]

    rows = json.loads(content(exporter.get(f"{LIST}export/json/", {"client": "one"})))
    assert [row["fingerprint"] for row in rows] == expected
    assert rows[0] | {"kind": "session", "client": "one", "requests": 1, "user": "anonymous"} == rows[0]
    lines = list(csv.reader(io.StringIO(content(exporter.get(f"{LIST}export/csv/", {"client": "one"})))))
    assert lines[0] == list(FIELDS)
    assert [line[0] for line in lines[1:]] == expected
    assert json.loads(content(exporter.get(f"{LIST}export/json/", {"client": "three"}))) == []
    assert exporter.get(f"{LIST}export/exe/").status_code == 404


def test_an_export_is_read_while_it_is_sent(exporter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 5)
    made: list[int] = []
    monkeypatch.setattr(exporting, "summary", lambda row: made.append(1) or {"fingerprint": row.pk})
    open_sessions([Opened() for _ in range(30)])
    parts = iter(exporter.get(f"{LIST}export/csv/").streaming_content)  # type: ignore[attr-defined]  # it streams
    next(parts)
    next(parts)
    assert len(made) == 5


@pytest.mark.django_db(transaction=True)
async def test_an_export_streams_under_asgi_too(exporter: Client) -> None:
    client = AsyncClient()
    client.cookies = exporter.cookies
    response: Any = await client.get(f"{LIST}export/json/")
    assert response.is_async
    assert json.loads(b"".join([part async for part in response.streaming_content])) == []


def test_no_cell_is_a_formula(exporter: Client) -> None:
    open_sessions([Opened(client="=HYPERLINK(1)", client_version="@x")])
    [_, line] = csv.reader(io.StringIO(content(exporter.get(f"{LIST}export/csv/"))))
    assert [line[4], line[5]] == ["'=HYPERLINK(1)", "'@x"]


def test_the_api_has_pages_and_says_how_many_there_are(exporter: Client) -> None:
    opened = open_sessions([Opened() for _ in range(60)])
    first = exporter.get(API, {"client": "inspector", "protocol": "2025-11-25"}).json()
    second = exporter.get(first["next"]).json()
    assert (first["total"], first["total_is_exact"], second["next"]) == (60, True, None)
    found = [record["fingerprint"] for record in first["records"] + second["records"]]
    assert found == [each.fingerprint for each in reversed(opened)]
    assert set(first["records"][0]) == set(FIELDS)


def test_the_api_says_what_is_wrong(exporter: Client, settings: Any) -> None:
    wrong = exporter.get(API, {"endpoint": "nowhere"})
    assert (wrong.status_code, wrong.json()) == (400, {"error": "There is no endpoint “nowhere”."})
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    assert exporter.get(API).status_code == 503
    assert exporter.get(f"{LIST}export/csv/").status_code == 503


def test_both_have_a_permission_of_their_own(viewer: Client, exporter: Client) -> None:
    assert viewer.get(API).status_code == 403
    assert viewer.get(f"{LIST}export/csv/").status_code == 403
    assert staff("export_session", name="blind").get(API).status_code == 403
    assert "Export as CSV" not in body(viewer.get(LIST))
    assert "Export as CSV" in body(exporter.get(LIST))
    assert exporter.post(API).status_code == 403
    assert Client().get(API).status_code == 302
