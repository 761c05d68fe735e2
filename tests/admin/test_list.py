"""The list of sessions: its columns, order, filters, search and cost."""

import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis.connection import Connection

from tests.admin.pages import LIST, body, detail, endpoint, listed, said
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def test_the_list_says_what_matters_of_each_session(viewer: Client) -> None:
    ada = User.objects.create_user("ada")
    sessions = open_sessions(
        [
            Opened(client="inspector", client_version="2.1", calls=("ping", "tools/list")),
            Opened(client="coder", protocol="2025-06-18", principal=f"user:{ada.pk}"),
            Opened(principal='oauth:["https://issuer.example","subject-7"]'),
            Opened(principal='oauth-client:[null,"robot"]'),
            Opened(principal="user:999999"),
            Opened(principal="something-else"),
        ]
    )
    response = viewer.get(LIST)
    page = body(response)
    assert listed(response) == [session.fingerprint for session in reversed(sessions)]
    for words in (
        "inspector 2.1",
        "coder 1.0",
        "2025-06-18",
        "anonymous",
        ">ada<",
        ">59 min<",
        "s ago",
    ):
        assert words in page
    for words in (
        "subject-7 (https://issuer.example)",
        "client robot",
        "deleted user 999999",
        "something-else",
    ):
        assert words in page
    assert f">{sessions[0].fingerprint[:12]}</code>" in page
    assert '<td class="field-requests">2</td>' in page
    assert re.search(r'title="[^"]+; created \d+ s ago">\d+ s ago<', page)


def test_user_names_are_one_query_for_the_whole_page(viewer: Client) -> None:
    users = [User.objects.create_user(f"user{n}") for n in range(12)]
    open_sessions([Opened()])
    without_users = queries_of(viewer, LIST)
    open_sessions([Opened(principal=f"user:{user.pk}") for user in users])
    assert queries_of(viewer, LIST) == without_users + 1


def queries_of(client: Client, url: str) -> int:
    """How many database queries the page costs."""
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return len(queries)


@pytest.fixture
def round_trips() -> Iterator[list[int]]:
    """Counts what the sync driver sends to Redis: one entry a round trip."""
    sent: list[int] = []
    send: Any = Connection.send_packed_command

    def counted(self: Connection, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(1)
        send(self, command, *args, **kwargs)

    with mock.patch.object(Connection, "send_packed_command", counted):
        yield sent


def test_a_page_costs_the_same_however_many_sessions_there_are(
    viewer: Client, round_trips: list[int]
) -> None:
    def cost(query: str) -> int:
        viewer.get(LIST + query)
        round_trips.clear()
        assert viewer.get(LIST + query).status_code == 200
        return len(round_trips)

    queries = ("", "?p=2", "?client=inspector", "?protocol=2025-11-25&activity=1h")
    open_sessions([Opened() for _ in range(60)])
    of_few = [cost(query) for query in queries]
    open_sessions([Opened() for _ in range(120)])
    assert [cost(query) for query in queries] == of_few
    assert max(of_few) <= 3, "the clients for the filter, one range read, one pipeline"


def test_long_lists_have_pages(viewer: Client) -> None:
    sessions = open_sessions([Opened() for _ in range(120)])
    newest_first = [session.fingerprint for session in reversed(sessions)]
    assert listed(viewer.get(LIST)) == newest_first[:50]
    assert listed(viewer.get(LIST, {"p": "3"})) == newest_first[100:]
    assert listed(viewer.get(LIST, {"all": ""})) == newest_first
    assert "120 records" in body(viewer.get(LIST))


def test_a_wrong_address_never_is_an_error(viewer: Client) -> None:
    open_sessions([Opened() for _ in range(60)])
    queries = ("?p=99", "?p=0", "?p=x", "?client_name__icontains=a", "?no_such_field=1", "?pk__in=1")
    assert [viewer.get(LIST + query, follow=True).status_code for query in queries] == [200] * len(queries)


def test_the_list_is_sorted_by_last_activity_either_way_and_by_nothing_else(viewer: Client) -> None:
    sessions = [session.fingerprint for session in open_sessions([Opened() for _ in range(3)])]
    page = viewer.get(LIST)
    headers = body(page).count("sortable")
    column = page.context["cl"].list_display.index("activity")
    assert headers >= 1
    assert listed(viewer.get(LIST, {"o": str(column)})) == sessions
    assert listed(viewer.get(LIST, {"o": f"-{column}"})) == sessions[::-1]
    refused = viewer.get(LIST, {"o": "2"}, follow=True)
    assert listed(refused) == sessions[::-1]


def test_filters_narrow_the_list(viewer: Client) -> None:
    one, two = open_sessions([Opened(client="one", protocol="2025-03-26"), Opened(client="two")])
    assert listed(viewer.get(LIST, {"client": "one"})) == [one.fingerprint]
    assert listed(viewer.get(LIST, {"protocol": "2025-11-25"})) == [two.fingerprint]
    assert listed(viewer.get(LIST, {"activity": "5m", "client": "two"})) == [two.fingerprint]
    assert listed(viewer.get(LIST, {"activity": "idle"})) == []
    assert listed(viewer.get(LIST, {"activity": "nonsense"})) == []
    assert listed(viewer.get(LIST, {"client": "three"})) == []


def test_choosing_a_client_takes_the_protocol_away(viewer: Client) -> None:
    open_sessions([Opened(client="one")])
    page = body(viewer.get(LIST, {"protocol": "2025-11-25", "activity": "1h"}))
    assert 'href="?activity=1h&amp;client=one"' in page


def test_two_filters_that_no_index_serves_are_explained(viewer: Client) -> None:
    open_sessions([Opened()])
    response = viewer.get(LIST, {"client": "inspector", "protocol": "2025-11-25"}, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    [text] = said(response)
    assert "one at a time" in text
    assert text.endswith("The filters by client and protocol were removed.")


def test_sessions_are_found_by_what_operators_know(viewer: Client, settings: LazySettings) -> None:
    settings.MCP_SESSIONS["default"] |= {"TOKEN_VERIFIER": "x.y", "ISSUER_URL": "https://issuer.example"}
    settings.MCP_SESSIONS = dict(settings.MCP_SESSIONS)
    ada = User.objects.create_user("ada.lovelace")
    by_user, by_token, by_client = open_sessions(
        [
            Opened(principal=f"user:{ada.pk}", client="one"),
            Opened(principal='oauth:["https://issuer.example/","subject-7"]', client="two"),
            Opened(client="Claude Code"),
        ]
    )
    searches = {
        "lovelace": by_user,
        "subject-7": by_token,
        "claude": by_client,
        "anonymous": by_client,
        by_token.fingerprint[:8].upper(): by_token,
        f" {by_user.fingerprint} ": by_user,
    }
    for text, session in searches.items():
        assert listed(viewer.get(LIST, {"q": text})) == [session.fingerprint], text
    for text in ("nobody", by_user.fingerprint[:7], "f" * 64, "*", "a" * 500):
        response = viewer.get(LIST, {"q": text})
        assert listed(response) == []
        assert "No record matches" in body(response)


def test_the_search_box_says_what_can_be_searched(viewer: Client) -> None:
    assert "first 8 or more digits of a fingerprint" in body(viewer.get(LIST))


def test_a_search_that_means_too_many_users_says_so(viewer: Client) -> None:
    users = [User.objects.create_user(f"user{n:02}") for n in range(12)]
    open_sessions([Opened(principal=f"user:{user.pk}") for user in users])
    response = viewer.get(LIST, {"q": "user"})
    assert len(listed(response)) == 10
    assert "Type more of the name" in said(response)[0]


def test_a_search_that_a_filter_excludes_stays_and_the_filter_goes(viewer: Client) -> None:
    searched, _ = open_sessions([Opened(client="cursor"), Opened(client="other")])
    address = {"q": "curs", "activity": "1h", "protocol": "2025-06-18"}
    response = viewer.get(LIST, address, follow=True)
    assert response.redirect_chain == [(f"{LIST}?q=curs&activity=1h", 302)]
    assert listed(response) == [searched.fingerprint]
    [text] = said(response)
    assert "one at a time" in text
    assert text.endswith("The filter by protocol was removed.")


def test_an_empty_list_says_when_it_will_not_be_empty(viewer: Client) -> None:
    response = viewer.get(LIST)
    assert "<code>initialize</code>" in body(response)
    assert "Run the selected action" not in body(response)


def test_one_endpoint_leaves_nothing_to_choose(viewer: Client) -> None:
    page = body(viewer.get(LIST))
    assert "By endpoint" not in page
    assert "column-endpoint" not in page


def test_several_endpoints_are_listed_together_or_one_by_one(viewer: Client, two_endpoints: None) -> None:
    [shop] = open_sessions([Opened()], "shop")
    [stock] = open_sessions([Opened()], "stock")
    response = viewer.get(LIST)
    assert listed(response) == [stock.fingerprint, shop.fingerprint]
    assert "By endpoint" in body(response)
    assert '<td class="field-endpoint">stock</td>' in body(response)
    assert listed(viewer.get(LIST, {"endpoint": "shop"})) == [shop.fingerprint]
    assert "stock" in body(viewer.get(detail(stock)))


def test_sessions_of_another_namespace_are_never_listed(viewer: Client, settings: LazySettings) -> None:
    open_sessions([Opened()])
    settings.MCP_SESSIONS = {"default": endpoint()}
    assert listed(viewer.get(LIST)) == []
