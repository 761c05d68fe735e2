"""The list of sessions: its columns, order, filters, search and cost."""

import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis.connection import Connection

from mcp_sessions.store.calls.sessions import end
from mcp_sessions.store.factory import sync_store_for
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

    queries = ("", "?client=inspector", "?protocol=2025-11-25&activity=last-3600", "?q=inspector")
    combined = ("?client=inspector&protocol=2025-11-25&user=anonymous", "?q=inspector&protocol=2025-11-25")
    open_sessions([Opened() for _ in range(60)])
    of_few = [cost(query) for query in queries]
    assert max(map(cost, combined)) <= 5
    open_sessions([Opened() for _ in range(120)])
    assert [cost(query) for query in queries] == of_few
    assert max(of_few) <= 3, "what is around the list, one range read, one pipeline"
    assert max(map(cost, combined)) <= 5


def test_the_page_of_a_record_costs_a_handful_of_round_trips(viewer: Client, round_trips: list[int]) -> None:
    """What it does, what it did, its state and subscriptions, and other sessions of its user."""
    session, other = open_sessions([Opened(principal="user:7"), Opened(principal="user:7")])
    viewer.get(detail(session))
    round_trips.clear()
    page = body(viewer.get(detail(session)))
    assert other.fingerprint in page
    assert len(round_trips) <= 5


def test_long_lists_have_pages(viewer: Client) -> None:
    sessions = open_sessions([Opened() for _ in range(120)])
    newest_first = [session.fingerprint for session in reversed(sessions)]
    first = viewer.get(LIST)
    second = viewer.get(LIST + first.context["cl"].next_page)
    third = viewer.get(LIST + second.context["cl"].next_page)
    assert listed(first) + listed(second) + listed(third) == newest_first
    assert third.context["cl"].next_page == first.context["cl"].previous_page == ""
    assert listed(viewer.get(LIST + third.context["cl"].previous_page)) == newest_first[50:100]
    assert listed(viewer.get(LIST + second.context["cl"].previous_page)) == newest_first[:50]
    for page in (first, second, third):
        assert "120 sessions." in body(page)
        assert "<h1>MCP sessions</h1>" in body(page)


def test_pages_keep_the_filters_the_search_and_the_order(viewer: Client) -> None:
    sessions = [session.fingerprint for session in open_sessions([Opened(client="coder") for _ in range(60)])]
    first = viewer.get(LIST)
    oldest_first = viewer.get(LIST + first.context["cl"].other_order[0] + "&client=coder&q=cod")
    assert listed(oldest_first) == sessions[:50]
    second = viewer.get(LIST + oldest_first.context["cl"].next_page)
    assert listed(second) == sessions[50:]
    assert "60 sessions of 60 sessions." in body(second)
    assert "client=coder" in second.context["cl"].other_order[0]
    assert "q=cod" in second.context["cl"].previous_page


def test_a_record_leads_back_to_the_page_of_the_list(viewer: Client) -> None:
    [session] = open_sessions([Opened(client="coder & friends")])
    assert f'href="{detail(session)}"' in body(viewer.get(LIST))
    narrowed = {"client": "coder & friends", "user": "anonymous"}
    page = body(viewer.get(LIST, narrowed))
    [query] = re.findall(rf'href="{re.escape(detail(session))}\?([^"]+)"', page)
    filters = QueryDict(query)["_changelist_filters"]
    assert QueryDict(filters).dict() == narrowed


def test_what_ends_while_somebody_pages_is_neither_shown_nor_counted(viewer: Client) -> None:
    opened = open_sessions([Opened() for _ in range(70)])
    address = LIST + viewer.get(LIST).context["cl"].next_page
    for session in opened[:5]:
        sync_store_for("default").run(end(session.fingerprint, principal=None, reason="deleted"))
    page = viewer.get(address)
    assert listed(page) == [session.fingerprint for session in reversed(opened[5:20])]
    assert page.context["cl"].result_count == 65


def test_a_wrong_address_never_is_an_error(viewer: Client) -> None:
    open_sessions([Opened() for _ in range(60)])
    queries = (
        "?p=99",
        "?after=x",
        "?before=1-2",
        "?after=5-" + "a" * 64,
        "?before=5-" + "a" * 64,
        "?p=0",
        "?p=x",
        "?client_name__icontains=a",
        "?no_such_field=1",
        "?pk__in=1",
    )
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
    assert listed(viewer.get(LIST, {"activity": "last-300", "client": "two"})) == [two.fingerprint]
    assert listed(viewer.get(LIST, {"activity": "idle-1800"})) == []
    assert listed(viewer.get(LIST, {"activity": "nonsense"})) == []
    assert listed(viewer.get(LIST, {"client": "three"})) == []


def test_filters_combine_and_each_choice_keeps_the_others(viewer: Client) -> None:
    ada = User.objects.create_user("ada")
    opened = open_sessions(
        [
            Opened(client="one", principal=f"user:{ada.pk}", minutes_ago=40),
            Opened(client="one"),
            Opened(client="one", protocol="2025-06-18"),
            Opened(client="two"),
            Opened(kind="handle", label="basket", client="one"),
        ]
    )
    page = viewer.get(LIST, {"protocol": "2025-11-25", "activity": "last-3600", "q": "one", "o": "5"})
    assert 'href="?activity=last-3600&amp;client=one&amp;o=5&amp;protocol=2025-11-25&amp;q=one"' in body(page)
    found = viewer.get(LIST, {"client": "one", "protocol": "2025-11-25", "kind": "session"})
    assert listed(found) == [opened[1].fingerprint, opened[0].fingerprint]
    assert "2 sessions of 4 sessions and 1 handle." in body(found)
    found = viewer.get(LIST, {"client": "one", "user": "ada", "activity": "idle-1800"})
    assert listed(found) == [opened[0].fingerprint]
    found = viewer.get(LIST, {"client": "one", "user": "ada", "activity": "last-900"})
    assert listed(found) == []


def test_exactly_one_user_can_be_picked(viewer: Client) -> None:
    ada, other = User.objects.create_user("ada"), User.objects.create_user("ada.ops")
    [of_ada, _] = open_sessions([Opened(principal=f"user:{user.pk}") for user in (ada, other)])
    assert len(listed(viewer.get(LIST, {"q": "ada"}))) == 2
    assert listed(viewer.get(LIST, {"user": "ada"})) == [of_ada.fingerprint]
    unknown = viewer.get(LIST, {"user": "ad"})
    assert listed(unknown) == []
    assert said(unknown)[0].startswith("There is no user “ad”. “user” may be a user name, ")


def test_activity_windows_are_parts_of_the_idle_ttl(viewer: Client, settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {"default": endpoint(IDLE_TTL=1200)}
    page = body(viewer.get(LIST))
    for words in ("In the last 20 s", "In the last 2 min", "In the last 5 min", "Not in the last 10 min"):
        assert words in page
    assert "day" not in page


def test_what_the_address_names_wrongly_is_said(viewer: Client) -> None:
    open_sessions([Opened()])
    for address, words in (
        ({"endpoint": "nowhere"}, "There is no endpoint “nowhere”. “endpoint” may be default."),
        ({"kind": "cookie"}, "There is no kind “cookie”. “kind” may be session, handle, "),
        ({"state": "asleep"}, "There is no state “asleep”. “state” may be calling, "),
        (
            {"activity": "1d"},
            "There is no filter by activity “1d”. “activity” may be last- or idle- and a number",
        ),
        ({"user": "a\0"}, "There is no user “a"),
    ):
        response = viewer.get(LIST, address)
        assert listed(response) == []
        [said_] = said(response)
        assert said_.startswith(words)


def test_a_search_that_stops_before_its_end_says_so_and_goes_on(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.store.calls.queries.WHOLE", 1)
    monkeypatch.setattr("mcp_sessions.store.calls.queries.MOST_WALKED", 20)
    wanted, *_ = open_sessions(
        [Opened(client="rare"), Opened(client="rare", protocol="2025-06-18")]
        + [Opened() if n % 2 else Opened(protocol="2025-06-18", client="rare") for n in range(90)]
    )
    address, pages = "?client=rare&protocol=2025-11-25", 1
    while not listed(page := viewer.get(LIST + address)):
        changelist = page.context["cl"]
        assert "Nothing was found so far." in body(page)
        assert changelist.counted.startswith("at least 0")
        address, pages = changelist.next_page, pages + 1
    assert listed(page) == [wanted.fingerprint]
    assert pages == 2


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


def test_a_search_holds_together_with_the_filters(viewer: Client) -> None:
    searched, _, _ = open_sessions(
        [Opened(client="cursor"), Opened(client="other"), Opened(client="cursor", protocol="2025-06-18")]
    )
    response = viewer.get(LIST, {"q": "curs", "activity": "last-900", "protocol": "2025-11-25"})
    assert listed(response) == [searched.fingerprint]
    assert said(response) == []


def test_an_empty_list_says_when_it_will_not_be_empty(viewer: Client) -> None:
    response = viewer.get(LIST)
    assert "<code>initialize</code>" in body(response)
    assert "Run the selected action" not in body(response)


def test_a_session_without_errors_says_nothing_of_errors(viewer: Client) -> None:
    """The cards of a phone leave out what is empty."""
    open_sessions([Opened()])
    assert '<td class="field-errors"></td>' in body(viewer.get(LIST))


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
