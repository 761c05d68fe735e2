"""The admin as an operator uses it, over a real Redis."""

import itertools
from collections.abc import Iterator
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from redis.connection import Connection

from mcp_sessions.errors import NotAllEnded
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import sync_store_for
from tests.support.redis import RedisServer, run_server
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

LIST = "/admin/mcp_sessions/mcpsession/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"

_namespaces = itertools.count()


def on_redis(url: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}


def endpoint(**more: Any) -> dict[str, Any]:
    """An endpoint with a namespace that no other test has."""
    return {"SERVER": "project.mcp.server", "NAMESPACE": f"admin{next(_namespaces)}", **more}


@pytest.fixture(autouse=True)
def one_endpoint(settings: LazySettings, redis_server: RedisServer) -> None:
    """One endpoint without sessions."""
    settings.CACHES = on_redis(redis_server.url)
    settings.MCP_SESSIONS = {"default": endpoint()}


@pytest.fixture
def two_endpoints(settings: LazySettings, one_endpoint: None) -> None:
    settings.MCP_SESSIONS = {"shop": endpoint(), "stock": endpoint(PATH="stock")}


def staff(*codenames: str, name: str = "olga") -> Client:
    """The browser of a staff user with these permissions."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert user.user_permissions.count() == len(codenames)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer() -> Client:
    return staff("view_mcpsession", name="viewer")


@pytest.fixture
def operator() -> Client:
    return staff("view_mcpsession", "expire_session", name="operator")


def detail(session: Opened) -> str:
    return f"{LIST}{session.fingerprint}/change/"


def history(session: Opened) -> str:
    return f"{LIST}{session.fingerprint}/history/"


def body(response: Any) -> str:
    assert isinstance(response, HttpResponse)
    return response.content.decode()


def listed(response: Any) -> list[str]:
    """The fingerprints in the list."""
    return [row.pk for row in response.context["cl"].result_list]


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def action(*sessions: Opened, **more: str) -> dict[str, Any]:
    """What the list posts when its action is run."""
    picked = [session.fingerprint for session in sessions]
    return {"action": "force_expire", "_selected_action": picked, "select_across": "0", **more}


def confirmed(*sessions: Opened, **more: str) -> dict[str, Any]:
    return action(*sessions, post="yes", **more)


def alive(session: Opened, alias: str = "default") -> bool:
    return sync_store_for(alias).run(sessions.get(session.fingerprint)) is not None


# Who may do what.


def test_the_app_has_two_permissions_and_no_others() -> None:
    codenames = Permission.objects.filter(content_type__app_label="mcp_sessions").values_list(
        "codename", flat=True
    )
    assert set(codenames) == {"view_mcpsession", "expire_session"}


def test_the_model_needs_no_migration() -> None:
    call_command(
        "makemigrations", "mcp_sessions", check=True, dry_run=True, stdout=StringIO(), skip_checks=True
    )


def test_dumpdata_finds_no_rows_in_sessions() -> None:
    open_sessions([Opened()])
    out = StringIO()
    call_command("dumpdata", "mcp_sessions", stdout=out, skip_checks=True)
    call_command("dumpdata", "mcp_sessions", all=True, stdout=out, skip_checks=True)
    assert out.getvalue().replace("\n", "") == "[][]"


def test_a_stranger_is_sent_to_the_login_page() -> None:
    assert Client().get(LIST).url.startswith("/admin/login/")  # type: ignore[attr-defined]  # of a redirect


@pytest.mark.parametrize("codenames", [(), ("expire_session",)])
def test_staff_without_the_permission_to_view_see_nothing(codenames: tuple[str, ...]) -> None:
    [session] = open_sessions([Opened()])
    client = staff(*codenames)
    for url in (LIST, detail(session), history(session)):
        assert client.get(url).status_code == 403
    assert "mcp_sessions" not in body(client.get("/admin/"))


def test_staff_who_may_only_view_are_not_offered_to_expire(viewer: Client) -> None:
    [session] = open_sessions([Opened()])
    assert "force_expire" not in body(viewer.get(LIST))
    assert "force_expire" not in body(viewer.get(detail(session)))


@pytest.mark.parametrize("post", [action, confirmed])
def test_staff_who_may_only_view_cannot_expire(viewer: Client, post: Any) -> None:
    [session] = open_sessions([Opened()])
    assert viewer.post(LIST, post(session)).status_code == 403
    assert alive(session)


def test_staff_who_may_only_expire_cannot_without_seeing() -> None:
    [session] = open_sessions([Opened()])
    assert staff("expire_session").post(LIST, confirmed(session)).status_code == 403
    assert alive(session)


def test_expiring_needs_djangos_csrf_token(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    operator.handler.enforce_csrf_checks = True
    assert operator.post(LIST, confirmed(session)).status_code == 403
    assert alive(session)


def test_nobody_adds_changes_or_deletes_sessions(admin_client: Client) -> None:
    [session] = open_sessions([Opened()])
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(detail(session), {"client_name": "x"}).status_code == 403
    assert admin_client.post(f"{LIST}{session.fingerprint}/delete/", {"post": "yes"}).status_code == 403
    assert alive(session)


# The list.


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
    assert f"<code>{sessions[0].fingerprint[:12]}</code>" in page
    assert '<td class="field-requests">2</td>' in page


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
    """Counts what the sync face sends to Redis: one entry a round trip."""
    sent: list[int] = []
    send: Any = Connection.send_packed_command

    def counted(self: Connection, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(1)
        send(self, command, *args, **kwargs)

    with mock.patch.object(Connection, "send_packed_command", counted):
        yield sent


@pytest.mark.parametrize("query", ["", "?p=2", "?client=inspector", "?protocol=2025-11-25&activity=1h"])
def test_a_page_costs_the_same_however_many_sessions_there_are(
    viewer: Client, round_trips: list[int], query: str
) -> None:
    open_sessions([Opened() for _ in range(60)])
    costs = []
    for more in (0, 120):
        open_sessions([Opened() for _ in range(more)])
        viewer.get(LIST + query)
        round_trips.clear()
        assert viewer.get(LIST + query).status_code == 200
        costs.append(len(round_trips))
    assert costs[0] == costs[1] <= 3, "the clients for the filter, one range read, one pipeline"


def test_long_lists_have_pages(viewer: Client) -> None:
    sessions = open_sessions([Opened() for _ in range(120)])
    newest_first = [session.fingerprint for session in reversed(sessions)]
    assert listed(viewer.get(LIST)) == newest_first[:50]
    assert listed(viewer.get(LIST, {"p": "3"})) == newest_first[100:]
    assert listed(viewer.get(LIST, {"all": ""})) == newest_first
    assert "120 MCP sessions" in body(viewer.get(LIST))


@pytest.mark.parametrize(
    "query", ["?p=99", "?p=0", "?p=x", "?client_name__icontains=a", "?no_such_field=1", "?pk__in=1"]
)
def test_a_wrong_address_never_is_an_error(viewer: Client, query: str) -> None:
    open_sessions([Opened() for _ in range(60)])
    response = viewer.get(LIST + query, follow=True)
    assert response.status_code == 200


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
    assert "one at a time" in said(response)[0]


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
        assert "No open session matches" in body(response)


def test_the_search_box_says_what_can_be_searched(viewer: Client) -> None:
    assert "first 8 or more digits of a fingerprint" in body(viewer.get(LIST))


def test_a_search_that_means_too_many_users_says_so(viewer: Client) -> None:
    users = [User.objects.create_user(f"user{n:02}") for n in range(12)]
    open_sessions([Opened(principal=f"user:{user.pk}") for user in users])
    response = viewer.get(LIST, {"q": "user"})
    assert len(listed(response)) == 10
    assert "Type more of the name" in said(response)[0]


def test_a_search_within_a_filter_that_no_index_serves_is_explained(viewer: Client) -> None:
    open_sessions([Opened()])
    response = viewer.get(LIST, {"q": "anonymous", "protocol": "2025-11-25"}, follow=True)
    assert "one at a time" in said(response)[0]


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


# One session.


def test_the_detail_page_shows_everything_and_changes_nothing(viewer: Client) -> None:
    [session] = open_sessions(
        [
            Opened(
                capabilities={"sampling": {"tools": {}}},
                client_info={"title": "The Inspector"},
                state={"facts": ["one", "two"], "long": "x" * 5000},
                tools=("archive",),
                log_level="warning",
                calls=("tools/call:remember",),
            )
        ]
    )
    page = body(viewer.get(detail(session)))
    for words in (
        session.fingerprint,
        "tools/call:remember",
        "archive",
        "warning",
        "in operation",
        "The Inspector",
    ):
        assert words in page
    assert "&quot;sampling&quot;: {" in page
    assert "[&quot;one&quot;, &quot;two&quot;]" in page
    assert "x" * 300 in page
    assert "x" * 500 not in page
    assert "<td>5002</td>" in page
    assert 'name="_save"' not in page


def test_a_session_that_never_was_leads_back_to_the_list(viewer: Client) -> None:
    for unknown in ("f" * 64, "nonsense", "_3C_script_3E_"):
        response = viewer.get(f"{LIST}{unknown}/change/", follow=True)
        assert response.redirect_chain == [(LIST, 302)]
        assert "session no longer exists" in said(response)[0]


def test_no_page_runs_what_a_client_calls_itself(operator: Client) -> None:
    [session] = open_sessions(
        [
            Opened(
                client=HOSTILE,
                client_version=HOSTILE,
                client_info={"title": HOSTILE},
                capabilities={"experimental": {HOSTILE: {HOSTILE: 1}}},
                principal=f'oauth:["{"x" * 5}","<script>alert(3)</script>"]',
                state={HOSTILE: HOSTILE},
                calls=(f"tools/call:{HOSTILE}",),
                tools=(HOSTILE,),
            )
        ]
    )
    pages = [
        operator.get(LIST),
        operator.get(LIST, {"q": HOSTILE}),
        operator.get(LIST, {"client": HOSTILE}),
        operator.get(detail(session)),
        operator.post(LIST, action(session)),
        operator.post(LIST, confirmed(session), follow=True),
        operator.get(history(session)),
        operator.get("/admin/"),
    ]
    for page in pages:
        text = body(page)
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;" in text, "the name is shown, escaped"


def test_a_client_cannot_hide_in_control_characters(viewer: Client) -> None:
    open_sessions([Opened(client="good\u202etxt.exe\x00\ud800", client_version="\n" * 50)])
    assert "good\N{REPLACEMENT CHARACTER}txt.exe" in body(viewer.get(LIST))


# Force-expiring.


def test_expiring_asks_first(operator: Client) -> None:
    one, two, other = open_sessions([Opened(client="one"), Opened(client="two"), Opened(client="other")])
    page = body(operator.post(LIST, action(one, two, index="0")))
    assert "force-expire these 2 sessions?" in page
    assert one.fingerprint[:12] in page
    assert "two 1.0" in page
    assert other.fingerprint[:12] not in page
    assert alive(one)
    assert LogEntry.objects.count() == 0


def test_confirmed_sessions_end_and_others_go_on(operator: Client) -> None:
    one, two, other = open_sessions([Opened(), Opened(), Opened()])
    response = operator.post(LIST, confirmed(one, two), follow=True)
    assert [alive(session) for session in (one, two, other)] == [False, False, True]
    assert listed(response) == [other.fingerprint]
    assert said(response) == ["Force-expired 2 MCP sessions. No node serves them any more."]


def test_each_ended_session_is_in_the_audit_log(operator: Client) -> None:
    ada = User.objects.create_user("ada")
    one, two = open_sessions([Opened(client="one", principal=f"user:{ada.pk}"), Opened(client="two")])
    operator.post(LIST, confirmed(one, two))
    entry = LogEntry.objects.get(object_id=one.fingerprint)
    assert LogEntry.objects.filter(object_id=two.fingerprint).count() == 1
    assert (entry.user.get_username(), entry.action_flag) == ("operator", DELETION)
    assert entry.content_type == ContentType.objects.get(app_label="mcp_sessions", model="mcpsession")
    assert entry.object_repr == f"{one.fingerprint[:12]} (one 1.0)"
    assert "Client: one 1.0. Principal: ada." in entry.change_message


def test_the_history_outlives_the_session(operator: Client) -> None:
    [session] = open_sessions([Opened(client="one")])
    assert operator.get(history(session)).status_code == 200
    operator.post(LIST, confirmed(session))
    assert "Force-expired. Client: one 1.0." in body(operator.get(history(session)))
    assert operator.get(detail(session), follow=True).redirect_chain == [(history(session), 302)]


def test_the_page_of_one_session_can_expire_it(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    page = body(operator.get(detail(session)))
    assert "Force-expire this session" in page
    assert f'action="{LIST}"' in page
    assert f'name="_selected_action" value="{session.fingerprint}"' in page
    assert "force-expire this session?" in body(operator.post(LIST, action(session)))


def test_sessions_that_ended_in_the_meantime_are_told_apart(operator: Client) -> None:
    one, two = open_sessions([Opened(), Opened()])
    sync_store_for("default").run(sessions.end(two.fingerprint, principal=None, reason="expired_by_operator"))
    page = body(operator.post(LIST, action(one, two)))
    assert "1 of the selected sessions is already gone" in page
    response = operator.post(LIST, confirmed(one, two), follow=True)
    assert said(response)[1] == "1 MCP session was already gone."
    assert LogEntry.objects.count() == 1


def test_nothing_left_to_end_offers_the_way_back(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    sync_store_for("default").run(
        sessions.end(session.fingerprint, principal=None, reason="expired_by_operator")
    )
    page = body(operator.post(LIST, action(session)))
    assert "already gone" in page
    assert "Yes, I’m sure" not in page
    assert said(operator.post(LIST, confirmed(session), follow=True)) == ["1 MCP session was already gone."]


def test_all_pages_can_be_selected_and_only_what_the_filter_shows_ends(operator: Client) -> None:
    wanted = open_sessions([Opened(client="leaky") for _ in range(120)])
    [other] = open_sessions([Opened(client="other")])
    page = body(operator.post(f"{LIST}?client=leaky", action(wanted[0], select_across="1", index="0")))
    assert "force-expire all 120 sessions" in page
    assert "and 70 more" in page
    assert page.count('name="_selected_action"') == 1
    response = operator.post(f"{LIST}?client=leaky", confirmed(wanted[0], select_across="1"), follow=True)
    assert said(response) == ["Force-expired 120 MCP sessions. No node serves them any more."]
    assert not any(alive(session) for session in wanted)
    assert alive(other)
    assert LogEntry.objects.count() == 120


def test_an_action_has_a_bound_and_says_so(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.admin.actions.MAX_ENDED", 5)
    sessions = open_sessions([Opened() for _ in range(7)])
    assert "At most 5 are ended" in body(operator.post(LIST, action(sessions[0], select_across="1")))
    response = operator.post(LIST, confirmed(sessions[0], select_across="1"), follow=True)
    assert "Run the action again for the rest" in said(response)[1]
    assert len(listed(response)) == 2


def test_nothing_selected_ends_nothing(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    response = operator.post(LIST, action(index="0"), follow=True)
    assert "Items must be selected" in said(response)[0]
    assert alive(session)


@pytest.fixture
def signals() -> Iterator[list[dict[str, Any]]]:
    received: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        received.append({name: facts[name] for name in ("fingerprint", "alias", "reason")})

    session_ended.connect(receive)
    yield received
    session_ended.disconnect(receive)


def test_each_end_is_signalled_once(operator: Client, signals: list[dict[str, Any]]) -> None:
    one, gone = open_sessions([Opened(), Opened()])
    sync_store_for("default").run(
        sessions.end(gone.fingerprint, principal=None, reason="expired_by_operator")
    )
    operator.post(LIST, confirmed(one, gone))
    assert signals == [{"fingerprint": one.fingerprint, "alias": "default", "reason": "expired_by_operator"}]


def test_the_log_says_who_ended_a_session(operator: Client, caplog: pytest.LogCaptureFixture) -> None:
    [session] = open_sessions([Opened()])
    with caplog.at_level("INFO", "mcp_sessions.ending"):
        operator.post(LIST, confirmed(session))
    assert f"Session {session.fingerprint[:12]} ended: expired_by_operator, by 'operator'." in caplog.messages


def test_sessions_of_two_endpoints_end_in_one_action(operator: Client, two_endpoints: None) -> None:
    opened = [*open_sessions([Opened(), Opened()], "shop"), *open_sessions([Opened()], "stock")]
    gone = opened.pop(0)
    sync_store_for("shop").run(sessions.end(gone.fingerprint, principal=None, reason="deleted"))
    response = operator.post(LIST, confirmed(gone, *opened), follow=True)
    assert said(response) == [
        "Force-expired 2 MCP sessions. No node serves them any more.",
        "1 MCP session was already gone.",
    ]
    assert LogEntry.objects.count() == 2
    assert not alive(opened[0], "shop")
    assert not alive(opened[1], "stock")


def test_a_receiver_that_raises_stops_nothing(
    operator: Client, signals: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**facts: Any) -> None:
        raise RuntimeError("a receiver's own trouble")

    session_ended.connect(broken)
    try:
        one, two = open_sessions([Opened(), Opened()])
        operator.post(LIST, confirmed(one, two))
    finally:
        session_ended.disconnect(broken)
    assert len(signals) == 2
    assert "a receiver's own trouble" in caplog.text


# The store does not answer.


@pytest.fixture
def lost_store(settings: LazySettings, one_endpoint: None) -> Iterator[Opened]:
    """A Redis with a session in it, which has just gone away."""
    with run_server() as server:
        settings.CACHES = on_redis(server.url)
        settings.MCP_SESSIONS = {"default": endpoint()}
        [session] = open_sessions([Opened()])
        server.stop()
        yield session


def test_a_store_that_is_down_is_explained(
    operator: Client, lost_store: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    responses = [
        operator.get(LIST),
        operator.get(LIST, {"q": "x"}),
        operator.get(detail(lost_store)),
        operator.get(history(lost_store)),
        operator.post(LIST, action(lost_store)),
        operator.post(LIST, confirmed(lost_store)),
    ]
    for response in responses:
        assert response.status_code == 503
        assert response["Retry-After"] == "5"
        assert "Sessions are not lost" in body(response)
        assert "redis://" not in body(response)
    assert "The admin cannot reach a session store" in caplog.text
    assert LogEntry.objects.count() == 0


def test_the_rest_of_the_admin_goes_on_without_the_store(admin_client: Client, lost_store: Opened) -> None:
    assert admin_client.get("/admin/").status_code == 200
    assert admin_client.get(reverse("admin:auth_user_changelist")).status_code == 200


def test_what_ended_before_the_store_went_down_is_recorded(operator: Client) -> None:
    sessions = open_sessions([Opened() for _ in range(3)])
    ends = mock.Mock(side_effect=NotAllEnded([sessions[0].fingerprint]))
    with mock.patch("mcp_sessions.admin.actions.end_sessions", ends):
        response = operator.post(LIST, confirmed(*sessions))
    assert response.status_code == 503
    assert "Force-expired 1 MCP session." in body(response)
    assert LogEntry.objects.count() == 1


def test_with_one_of_two_stores_down_the_other_can_be_chosen(
    viewer: Client, settings: LazySettings, redis_server: RedisServer
) -> None:
    with run_server() as server:
        settings.CACHES = {**on_redis(redis_server.url), "other": on_redis(server.url)["default"]}
        settings.MCP_SESSIONS = {"shop": endpoint(), "stock": endpoint(PATH="stock", CACHE="other")}
        [session] = open_sessions([Opened()], "shop")
        server.stop()
        response = viewer.get(LIST)
        assert response.status_code == 503
        assert f'href="{LIST}?endpoint=shop"' in body(response)
        assert listed(viewer.get(LIST, {"endpoint": "shop"})) == [session.fingerprint]


# Without Redis.


@pytest.fixture
def in_memory(settings: LazySettings, one_endpoint: None) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def test_in_memory_the_list_says_that_it_is_this_process_only(operator: Client, in_memory: None) -> None:
    [session] = open_sessions([Opened(client="local")])
    response = operator.get(LIST)
    assert "Sessions of this process only" in body(response)
    assert listed(response) == [session.fingerprint]
    operator.post(LIST, confirmed(session))
    assert not alive(session)


def test_with_redis_the_list_says_nothing_of_the_kind(viewer: Client) -> None:
    assert "this process only" not in body(viewer.get(LIST))
