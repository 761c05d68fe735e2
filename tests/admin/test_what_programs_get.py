"""Exports and the API: with which methods, in which form, and what is said of a wrong address to the letter."""

import json
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client, RequestFactory

from mcp_sessions.admin import exporting
from mcp_sessions.inventory.documents import summary
from mcp_sessions.records import Handshake
from tests.admin.pages import LIST, endpoint, staff
from tests.admin.test_columns import row
from tests.inventory.stores import session
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

API = f"{LIST}api/records/"


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


@pytest.fixture
def exporter() -> Client:
    return staff("view_mcpsession", "export_session", name="exporter")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_they_are_only_read(exporter: Client, method: str) -> None:
    for address in (API, f"{LIST}export/csv/"):
        answer = exporter.generic(method, address)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_what_is_wrong_is_said_to_the_letter(exporter: Client) -> None:
    column = next(iter(exporter.get(API, {"o": "x"}).json()["error"].split()[3:4])).rstrip(",")
    assert exporter.get(API, {"o": "x"}).json()["error"] == (
        f"“o” may be {column}, for the oldest first, or -{column}."
    )
    long = exporter.get(API, {"n" * 61: "1"}).json()["error"]
    assert long.startswith(f"There is no parameter “{'n' * 59}…”. ")
    assert (
        exporter.get(API, {"n" * 60: "1"}).json()["error"].startswith(f"There is no parameter “{'n' * 60}”. ")
    )
    both = exporter.get(API, {"foo": "1", "kind": "x"}).json()["error"]
    assert "“foo”" in both
    assert "“x”" in both


def test_a_page_of_the_api_and_the_next_are_in_the_order_that_is_asked_for(exporter: Client) -> None:
    opened = [each.fingerprint for each in open_sessions([Opened() for _ in range(51)])]
    for order, expected in (("7", opened), ("", opened[::-1])):
        first = exporter.get(API, {"o": order} if order else {}).json()
        second = exporter.get(first["next"]).json()
        found = [each["fingerprint"] for each in first["records"] + second["records"]]
        assert found == expected
        assert (second["next"], second["total"], second["total_is_exact"]) == (None, 51, True)


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 1], [2, 0, 1], [1, 0, 0], [0, 0]])
def test_json_is_an_array_however_many_records_of_a_part_have_ended(sizes: list[int]) -> None:
    parts = [[row(session(number)) for number in range(size)] for size in sizes]
    text = b"".join(exporting._json(iter(parts))).decode()
    assert json.loads(text) == [json.loads(json.dumps(summary(each))) for part in parts for each in part]
    assert text.count("\n") == sum(sizes) + 2, "a record in each line"


def test_lines_of_csv_are_as_long_as_the_first(exporter: Client) -> None:
    one = row(session(0))
    text = b"".join(exporting._csv(iter([[], [one]]))).decode()
    assert text.count("\r\n") == 2
    [first, second, _] = text.split("\r\n")
    assert first.count(",") == second.count(",")


@pytest.mark.parametrize(
    ("value", "cell"),
    [("a=1", "a=1"), ("=1", "'=1"), ("\tx", "'\tx"), ("a;\t+1", "a;\t'+1"), (5, 5), (None, None), ("", "")],
)
def test_only_text_that_may_be_a_formula_is_changed(value: Any, cell: Any) -> None:
    assert exporting._cell(value) == cell


def test_people_are_shown_what_programs_are_refused() -> None:
    exporting.refuse_parts(RequestFactory().get("/"), "q")


def test_documents_cut_what_clients_say_of_themselves() -> None:
    info = {"name": "coder", "version": "v" * 101}
    long = Handshake(protocol_version="p" * 101, client_info=info, capabilities={})
    document = summary(row(handshake=long))
    assert (document["client_version"], document["protocol"]) == ("v" * 99 + "…", "p" * 99 + "…")
    just_fits = summary(row(session(0, protocol="p" * 100, client="c" * 100)))
    assert (just_fits["client"], just_fits["protocol"]) == ("c" * 100, "p" * 100)
