"""What a job selects, how it is kept, and how it is said."""

from dataclasses import replace
from typing import Any

import pytest
from django.utils import translation

from mcp_sessions.audit.models import EndingJob
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import selection
from mcp_sessions.jobs.selection import Selection, Source, snapshot
from mcp_sessions.jobs.table import obstacle
from mcp_sessions.records import KINDS
from mcp_sessions.store.calls.queries import Query
from tests.support.sessions import Opened, open_sessions

EVERY = SessionQuery(aliases=("default",))
LATELY = replace(EVERY, filters=Query(active_since_ms=1))


def picked(*opened: Opened) -> Picked:
    return Picked(fingerprints=tuple(each.fingerprint for each in opened))


def test_what_is_picked_is_what_was_there_and_no_later_record_of_the_same_fingerprint() -> None:
    one, two = open_sessions([Opened(), Opened()])
    taken = snapshot(replace(EVERY, matches=(picked(one, two, Opened(fingerprint="ff" * 32)),)))
    [source] = taken.selection.sources
    rows = EVERY.page(limit=9).rows
    assert set(source.picked) == {one.fingerprint, two.fingerprint}
    assert source.before_ms == max(row.session.created_ms for row in rows) + 1
    assert (taken.expected, taken.gone, taken.left, taken.named) == (2, 1, 0, None)
    assert taken.described == "2 selected"
    found, more = taken.selection.records(most=9)
    assert ({row.session.fingerprint for row in found}, more) == ({one.fingerprint, two.fingerprint}, False)
    assert taken.selection.records(most=1)[1] is True


def test_a_selection_is_kept_as_it_is() -> None:
    queries = [Query(client="\ud800", kind="handle"), Query(principal="user:1", active_before_ms=5)]
    sources = (
        *(Source(alias="default", query=each) for each in queries),
        Source(alias="default", picked=("ab" * 32,), before_ms=9),
        Source(alias="default", picked=("cd" * 32,)),
    )
    kept = Selection(sources=sources, cut_off_ms={"default": 7})
    document = kept.as_json()
    assert Selection.from_json(document) == kept
    assert document["sources"][0]["query"]["client"] == "\N{REPLACEMENT CHARACTER}D800"
    assert "label" not in document["sources"][0]["query"]
    del document["sources"][2]["before_ms"]
    assert Selection.from_json(document).sources[2].before_ms == 0, "as older releases wrote it"
    assert (kept.before_ms("default"), kept.may_be_joined) == (9, False)
    assert replace(kept, sources=sources[:2]).before_ms("default") == 7
    joined = Source(alias="default", query=Query(active_since_ms=1))
    assert replace(kept, sources=(joined,)).may_be_joined


def test_as_many_as_can_be_named_are_named_and_one_more_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    open_sessions([Opened() for _ in range(3)])
    for most, named in ((4, 3), (3, 3), (2, None)):
        monkeypatch.setattr(selection, "MOST_NAMED", most)
        taken = snapshot(LATELY, closed=True)
        assert (None if taken.named is None else len(taken.named.rows)) == named
        assert (taken.expected, taken.left, taken.selection.may_be_joined) == (3, 0, named is None)
    assert snapshot(LATELY).named is None
    assert snapshot(EVERY, closed=True).named is None
    among = replace(EVERY, among=frozenset(row.session.fingerprint for row in EVERY.page(limit=9).rows))
    taken = snapshot(among)
    assert (taken.expected, taken.left, taken.described) == (2, 1, "2 selected")


def test_what_was_selected_is_said_in_english() -> None:
    one, two = open_sessions([Opened(client="coder"), Opened()])
    for query, words in (
        (EVERY, "records of default"),
        (replace(EVERY, kinds=tuple(reversed(KINDS))), "records of default"),
        (
            replace(EVERY, kinds=("session", "handle", "user")),
            "sessions, handles and user states of default",
        ),
        (replace(EVERY, matches=(picked(one),)), f"{one.fingerprint[:12]} (coder 1.0)"),
        (
            replace(EVERY, matches=(picked(one, two), Query(label="basket"))),
            "2 selected, records of default, label 'basket'",
        ),
        (
            replace(
                EVERY, filters=Query(client="a", active_before_ms=9), matches=(Query(principal="user:1"),)
            ),
            "records of default, client 'a', not used lately, principal 'user:1'",
        ),
        (LATELY, "records of default, used lately"),
    ):
        with translation.override("de"):
            assert snapshot(query).described == words


@pytest.mark.parametrize(
    ("position", "batch", "hinders"),
    [
        ({}, "", True),
        ({"source": 0}, "begun", True),
        ({"source": 1}, "begun", True),
        ({"source": 1}, "", False),
        ({"source": 2}, "begun", False),
    ],
)
def test_only_what_is_yet_to_end_can_hinder_a_job(
    position: dict[str, Any], batch: str, hinders: bool
) -> None:
    sources = [{"alias": alias, "query": {"kind": "session"}} for alias in ("gone", "default")]
    job = EndingJob(
        selection={"sources": sources, "cut_off_ms": {"gone": 1, "default": 1}},
        position=position,
        batch=batch,
    )
    assert bool(obstacle(job)) is hinders
