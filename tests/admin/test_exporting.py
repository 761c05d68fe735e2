"""The filtered list as a file, and as JSON for programs."""

import csv
import io
import json
from typing import Any

import pytest
from django.test import AsyncClient, Client

from mcp_sessions import conf
from mcp_sessions.admin import exporting
from mcp_sessions.inventory.documents import FIELDS
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, body, said, staff
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
    made: list[str] = []

    def summary(row: Any) -> dict[str, Any]:
        made.append(row.pk)
        return {"fingerprint": row.pk}

    monkeypatch.setattr(exporting, "summary", summary)
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


@pytest.mark.parametrize("name", ["a;=1+1", 'a; "@x', "a;;-1", ";+1", "=1;=1"])
def test_no_cell_is_a_formula_where_semicolons_separate_cells(exporter: Client, name: str) -> None:
    """A spreadsheet in German reads it so, and takes quotes within a cell for text."""
    open_sessions([Opened(client=name)])
    [_, line] = content(exporter.get(f"{LIST}export/csv/")).splitlines()
    cells = [cell.lstrip(" \"'") if "'" not in cell else cell for cell in line.split(";")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_the_api_has_pages_and_says_how_many_there_are(exporter: Client) -> None:
    opened = open_sessions([Opened() for _ in range(60)])
    first = exporter.get(API, {"client": "inspector", "protocol": "2025-11-25"}).json()
    second = exporter.get(first["next"]).json()
    assert (first["total"], first["total_is_exact"], second["next"]) == (60, True, None)
    found = [record["fingerprint"] for record in first["records"] + second["records"]]
    assert found == [each.fingerprint for each in reversed(opened)]
    assert set(first["records"][0]) == set(FIELDS)


@pytest.mark.parametrize("address", [API, f"{LIST}export/csv/", f"{LIST}export/json/"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"foo": "1"}, "There is no parameter “foo”. The parameters are endpoint, kind, label, "),
        ({"limit": "10"}, "There is no parameter “limit”."),
        ({"requests__gt": "1"}, "There is no parameter “requests__gt”."),
        ({"p": "2"}, "There is no parameter “p”."),
        ({"endpoint": "nowhere"}, "There is no endpoint “nowhere”. “endpoint” may be default."),
        ({"kind": "cookie"}, "There is no kind “cookie”. “kind” may be session, handle, "),
        ({"kind": ["session", "handle"]}, "“kind” is there 2 times, and may be there once."),
        ({"state": "asleep"}, "There is no state “asleep”. “state” may be calling, "),
        ({"activity": "1h"}, "There is no filter by activity “1h”. “activity” may be last- or idle- "),
        ({"user": "nobody"}, "There is no user “nobody”. “user” may be a user name, "),
        ({"after": "yesterday"}, "“after” may be what the address of a next page has."),
        ({"o": "created"}, "“o” may be "),
        ({"q": "a\0b"}, "“q” has a NUL"),
    ],
)
def test_what_an_address_asks_for_wrongly_is_named(
    exporter: Client, address: str, wrong: dict[str, Any], words: str
) -> None:
    response = exporter.get(address, wrong)
    assert response.status_code == 400
    assert response.json()["error"].startswith(words)


def test_the_order_of_the_list_can_be_asked_for(exporter: Client) -> None:
    first, last = open_sessions([Opened(), Opened()])
    column = exporter.get(API, {"o": "x"}).json()["error"].split()[3].rstrip(",")
    orders = {}
    for order in (column, f"-{column}", ""):
        records = exporter.get(API, {"o": order}).json()["records"]
        orders[order] = [record["fingerprint"] for record in records]
    assert orders[column] == [first.fingerprint, last.fingerprint]
    assert orders[f"-{column}"] == orders[""] == [last.fingerprint, first.fingerprint]


def test_a_store_that_is_away_is_said(exporter: Client, settings: Any) -> None:
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
    assert exporter.post(API).status_code == exporter.post(f"{LIST}export/csv/").status_code == 405
    assert Client().get(API).status_code == 302


def test_a_search_that_means_more_than_is_listed_is_refused(exporter: Client) -> None:
    """A file, or a total, would look as if it were all."""
    open_sessions([Opened(client=f"agent-{n}") for n in range(11)])
    for address in (API, f"{LIST}export/csv/", f"{LIST}export/json/"):
        response = exporter.get(address, {"q": "agent"})
        assert response.status_code == 400
        assert response.json() == {"error": "“q” means too many clients or users. Give more of the name."}
        assert exporter.get(address, {"q": "agent-7"}).status_code == 200
    page = exporter.get(LIST, {"q": "agent"})
    assert said(page) == ["More clients or users match than are shown. Type more of the name."], "once"


def test_an_export_with_the_oldest_first_misses_nothing_that_is_used_meanwhile(
    exporter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves to the end, where it may be again; with the newest first, it moves to what was read before."""
    monkeypatch.setattr(exporting, "BATCH", 7)
    opened = open_sessions([Opened(minutes_ago=10) for _ in range(30)])
    oldest_first = exporter.get(f"{LIST}export/json/", {"o": "7"})
    parts = iter(oldest_first.streaming_content)  # type: ignore[attr-defined]  # it streams
    read = [next(parts), next(parts)]
    limits = conf.endpoint("default").limits
    for each in (opened[0], opened[15], opened[29]):
        sync_store_for("default").run(
            sessions.touch(
                each.fingerprint, principal=each.principal, limits=limits, call="ping", initialized=True
            )
        )
    rows = json.loads(b"".join([*read, *parts]))
    found = [row["fingerprint"] for row in rows]
    assert set(found) == {each.fingerprint for each in opened}
    assert [each for each in found if found.count(each) > 1] == [opened[0].fingerprint] * 2
