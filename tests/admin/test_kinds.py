"""Records of every kind in the admin: listed, filtered, found, shown and ended, each as what it is."""

import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from redis.connection import Connection

from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.records import KINDS, Kind
from tests.admin.pages import HOSTILE, LIST, action, alive, body, confirmed, detail, history, listed, said
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

TEXT = "basket-483-920-117"


def basket(name: str = TEXT, **more: Any) -> Opened:
    return Opened(kind="handle", label="basket", name=name, protocol="2026-07-28", **more)


def of_each_kind(**more: Any) -> dict[Kind, Opened]:
    records = [
        Opened(**more),
        basket(**more),
        Opened(kind="user", **more),
        Opened(kind="conversation", label="openai/session", **more),
        Opened(kind="caller", **more),
        Opened(kind="listener", **more),
    ]
    return {record.kind: record for record in open_sessions(records)}


def cells(page: str, column: str) -> list[str]:
    """The text in one column of the list."""
    found = re.findall(rf'class="field-{column}[^"]*">(.*?)</t[dh]>', page, re.DOTALL)
    return [re.sub("<[^>]+>", "", cell) for cell in found]


def test_the_list_shows_every_kind_by_its_name(viewer: Client) -> None:
    records = of_each_kind()
    page = viewer.get(LIST)
    assert listed(page) == [records[kind].fingerprint for kind in reversed(KINDS)]
    assert cells(body(page), "kind") == [
        "listener",
        "caller",
        "conversation (openai/session)",
        "user state",
        "handle (basket)",
        "session",
    ]
    names = cells(body(page), "record")
    assert names[4] == TEXT
    assert names[5] == records["session"].fingerprint[:12]
    assert "1 session, 1 handle, 1 user state, 1 conversation, 1 caller and 1 listener." in body(page)


def test_the_list_says_what_the_kinds_are(viewer: Client) -> None:
    page = body(viewer.get(LIST))
    assert "There are 6 kinds." in page
    assert "<dt>User state</dt>" in page


def test_a_handle_whose_text_is_a_secret_is_listed_by_its_fingerprint(viewer: Client) -> None:
    [secret] = open_sessions([basket("")])
    page = body(viewer.get(LIST))
    assert cells(page, "record") == [secret.fingerprint[:12]]
    assert "whoever knows it may use it" in body(viewer.get(detail(secret)))


def test_one_kind_can_be_chosen_and_among_handles_one_kind_of_them(viewer: Client) -> None:
    records = of_each_kind()
    [trip] = open_sessions([Opened(kind="handle", label="trip", name="trip-1")])
    for kind in KINDS[2:]:
        assert listed(viewer.get(LIST, {"kind": kind})) == [records[kind].fingerprint]
    handles = viewer.get(LIST, {"kind": "handle"})
    assert listed(handles) == [trip.fingerprint, records["handle"].fingerprint]
    assert "By kind of handle" in body(handles)
    assert 'href="?kind=handle&amp;label=trip"' in body(handles)
    assert listed(viewer.get(LIST, {"kind": "handle", "label": "trip"})) == [trip.fingerprint]
    assert "By key" in body(viewer.get(LIST, {"kind": "conversation"}))
    assert listed(viewer.get(LIST, {"kind": "nonsense"})) == []


def test_another_kind_takes_the_label_away_and_a_label_stays_a_filter_without_a_kind(viewer: Client) -> None:
    records = of_each_kind()
    page = body(viewer.get(LIST, {"kind": "handle", "label": "basket"}))
    assert 'href="?kind=session"' in page
    assert "label=basket&amp;kind" not in page
    alone = viewer.get(LIST, {"label": "basket"})
    assert listed(alone) == [records["handle"].fingerprint]
    assert "By label" in body(alone)


def test_a_label_combines_with_the_other_filters(viewer: Client) -> None:
    wanted = of_each_kind()["handle"]
    open_sessions([basket("basket-1-2-3", client="other")])
    response = viewer.get(LIST, {"kind": "handle", "label": "basket", "client": "inspector"})
    assert listed(response) == [wanted.fingerprint]
    assert response.context["cl"].result_count == 1


def test_the_other_filters_hold_for_every_kind(viewer: Client) -> None:
    records = of_each_kind(client="one")
    open_sessions([Opened(client="two")])
    assert len(listed(viewer.get(LIST, {"client": "one"}))) == len(KINDS)
    assert listed(viewer.get(LIST, {"protocol": "2026-07-28"})) == [records["handle"].fingerprint]
    assert len(listed(viewer.get(LIST, {"activity": "last-300"}))) == len(KINDS) + 1
    assert listed(viewer.get(LIST, {"activity": "idle-1800"})) == []


def test_every_kind_is_found_by_client_user_and_fingerprint(viewer: Client) -> None:
    ada = User.objects.create_user("ada.lovelace")
    records = of_each_kind(client="Claude Code", principal=f"user:{ada.pk}")
    open_sessions([Opened(client="other")])
    everything = [records[kind].fingerprint for kind in reversed(KINDS)]
    assert listed(viewer.get(LIST, {"q": "claude"})) == everything
    assert listed(viewer.get(LIST, {"q": "lovelace"})) == everything
    assert listed(viewer.get(LIST, {"q": "lovelace", "kind": "user"})) == [records["user"].fingerprint]
    for record in records.values():
        for digits in (record.fingerprint, record.fingerprint[:9].upper()):
            assert listed(viewer.get(LIST, {"q": digits})) == [record.fingerprint]


def test_a_handle_is_found_by_its_text_as_it_is_pasted(viewer: Client) -> None:
    wanted, _ = open_sessions([basket(), basket("basket-483-920-118")])
    for text in (TEXT, " BASKET 483920117", "“basket–483–920–117”"):
        assert listed(viewer.get(LIST, {"q": text})) == [wanted.fingerprint], text


@pytest.fixture
def round_trips() -> Iterator[list[int]]:
    sent: list[int] = []
    send: Any = Connection.send_packed_command

    def counted(self: Connection, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(1)
        send(self, command, *args, **kwargs)

    with mock.patch.object(Connection, "send_packed_command", counted):
        yield sent


def test_a_page_of_all_kinds_costs_a_handful_of_round_trips(viewer: Client, round_trips: list[int]) -> None:
    for _ in range(11):
        of_each_kind()
    costs = {}
    second = viewer.get(LIST).context["cl"].next_page
    for query in ("", second, "?kind=handle", "?kind=handle&label=basket", "?q=inspector", f"?q={TEXT}"):
        viewer.get(LIST + query)
        round_trips.clear()
        assert viewer.get(LIST + query).status_code == 200
        costs[query] = len(round_trips)
    handle = costs.pop(f"?q={TEXT}")
    assert set(costs.values()) == {3}, "what is around the list, the indexes, and the records"
    assert handle <= 4, "and what the last request of the handle did"


def test_pages_of_all_kinds_are_in_order_and_complete(viewer: Client) -> None:
    everything = [record.fingerprint for _ in range(10) for record in of_each_kind().values()][::-1]
    assert listed(viewer.get(LIST)) == everything[:50]
    assert listed(viewer.get(LIST + viewer.get(LIST).context["cl"].next_page)) == everything[50:]
    column = viewer.get(LIST).context["cl"].list_display.index("activity")
    assert listed(viewer.get(LIST, {"o": str(column)})) == everything[::-1][:50]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_record_says_what_is_meaningful_for_its_kind(viewer: Client, kind: Kind) -> None:
    record = of_each_kind(state={"facts": [1, "ä"]}, client_info={"title": "The Inspector"})[kind]
    page = body(viewer.get(detail(record)))
    for words in (
        record.fingerprint,
        "inspector 1.0",
        "anonymous",
        "The Inspector",
        "Created:",
        "Last activity:",
    ):
        assert words in page
    assert ("Phase:" in page) == ("Enabled tools:" in page) == ("Log level:" in page) == (kind == "session")
    assert (TEXT in page) == (kind == "handle")
    # What STATE_MAX_BYTES counts: the name, and JSON in which "ä" takes six characters.
    assert ("18 bytes in 1 name" in page) == (kind not in ("caller", "listener"))
    assert ("Requests:" in page) == (kind != "listener")


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("session", "this session", "404"),
        ("handle", "this handle", "still names it"),
        ("user", "this user state", "begins again"),
        ("conversation", "this conversation", "begins again"),
        ("caller", "this caller", "It is not blocked"),
        ("listener", "this listener", "The stream of a listener is closed"),
    ],
)
def test_each_kind_is_force_expired_as_what_it_is(
    operator: Client, kind: Kind, asked: str, words: str
) -> None:
    records = of_each_kind()
    record = records.pop(kind)
    assert f"Force-expire {asked}" in body(operator.get(detail(record)))
    page = body(operator.post(LIST, action(record)))
    assert f"force-expire {asked}?" in page
    assert words in page
    assert alive(record)
    response = operator.post(LIST, confirmed(record), follow=True)
    assert said(response) == [f"Force-expired 1 {asked.removeprefix('this ')}. No node serves it any more."]
    assert not alive(record)
    assert all(alive(other) for other in records.values())
    assert AuditEntry.objects.get().kind == kind
    assert f"Kind: {asked.removeprefix('this ')}" in body(operator.get(history(record)))
    assert operator.get(detail(record), follow=True).redirect_chain == [(history(record), 302)]


def test_the_log_of_the_admin_names_a_handle(operator: Client) -> None:
    [record] = open_sessions([basket()])
    operator.post(LIST, confirmed(record))
    [entry] = LogEntry.objects.all()
    assert entry.object_repr == f"basket {TEXT}"
    assert entry.change_message == f"Force-expired: basket {TEXT}, {EndingJob.objects.get()}."
    assert f"Change history: basket {TEXT}" in body(operator.get(history(record)))


def test_several_kinds_are_counted_apart(operator: Client) -> None:
    session = of_each_kind()["session"]
    baskets = open_sessions([basket(f"basket-{number}") for number in range(3)])
    page = body(operator.post(LIST, action(session, *baskets)))
    assert "force-expire these 3 handles and 1 session?" in page
    assert "404" in page
    assert "still names it" in page
    response = operator.post(LIST, confirmed(session, *baskets), follow=True)
    assert said(response) == ["Force-expired 3 handles and 1 session. No node serves them any more."]


def test_all_pages_of_all_kinds_can_be_selected(operator: Client) -> None:
    records = [record for _ in range(10) for record in of_each_kind(client="leaky").values()]
    [other] = open_sessions([Opened(client="other")])
    page = body(operator.post(f"{LIST}?client=leaky", action(records[0], select_across="1", index="0")))
    assert "force-expire all 60 records in the list, 10 sessions, 10 handles, " in page
    operator.post(f"{LIST}?client=leaky", confirmed(records[0], select_across="1"))
    assert not any(alive(record) for record in records)
    assert alive(other)
    assert AuditEntry.objects.filter(outcome="ended").count() == 60
    assert LogEntry.objects.count() == 1


def test_all_pages_of_one_kind_end_only_that_kind(operator: Client) -> None:
    records = of_each_kind()
    baskets = open_sessions([basket(f"basket-{number}") for number in range(60)])
    page = body(operator.post(f"{LIST}?kind=handle", action(baskets[0], select_across="1", index="0")))
    assert "force-expire all 61 handles in the list? What joins it from now on is not ended." in page
    operator.post(f"{LIST}?kind=handle", confirmed(baskets[0], select_across="1"))
    assert not alive(baskets[-1])
    assert [kind for kind in KINDS if not alive(records[kind])] == ["handle"]


def test_the_kinds_of_two_endpoints_are_one_list(viewer: Client, two_endpoints: None) -> None:
    [shop] = open_sessions([basket()], "shop")
    [stock] = open_sessions([Opened()], "stock")
    assert listed(viewer.get(LIST)) == [stock.fingerprint, shop.fingerprint]
    assert listed(viewer.get(LIST, {"endpoint": "shop"})) == [shop.fingerprint]
    assert listed(viewer.get(LIST, {"kind": "handle"})) == [shop.fingerprint]
    assert listed(viewer.get(LIST, {"kind": "handle", "endpoint": "stock"})) == []


def test_nobody_without_permission_sees_or_ends_a_handle(viewer: Client) -> None:
    [record] = open_sessions([basket()])
    assert viewer.post(LIST, confirmed(record)).status_code == 403
    assert "Force-expire" not in body(viewer.get(detail(record)))
    assert Client().get(detail(record)).status_code == 302
    assert alive(record)


def test_no_page_runs_what_a_record_is_called(operator: Client) -> None:
    records = open_sessions(
        [
            Opened(kind=kind, label=HOSTILE, name=HOSTILE + "1234", client=HOSTILE, state={HOSTILE: HOSTILE})
            for kind in KINDS[1:]
        ]
    )
    pages = [
        operator.get(LIST),
        operator.get(LIST, {"kind": "handle"}),
        operator.get(LIST, {"kind": "handle", "label": HOSTILE}),
        operator.get(LIST, {"q": HOSTILE + "1234"}),
        *(operator.get(detail(record)) for record in records),
        operator.post(LIST, action(*records)),
        operator.post(LIST, confirmed(records[0]), follow=True),
        operator.post(LIST, confirmed(*records[1:]), follow=True),
        *(operator.get(history(record)) for record in records),
        operator.get("/admin/"),
    ]
    for page in pages:
        text = body(page)
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;" in text, "the name is shown, escaped"
