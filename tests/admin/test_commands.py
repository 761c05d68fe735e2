"""`manage.py mcp_sessions` at a shell, over a real Redis."""

import itertools
import json
import os
from datetime import timedelta
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from mcp_sessions import audit, blocks
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.ending import end_batch
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.management.subcommands import listing
from mcp_sessions.management.subcommands.jobs import operator
from mcp_sessions.store.calls import sessions, validity
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import alive
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

_namespaces = itertools.count()


@pytest.fixture(autouse=True)
def endpoints(settings: LazySettings, redis_server: RedisServer) -> None:
    """Two endpoints without sessions."""
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url},
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    settings.MCP_SESSIONS = {
        "shop": {"SERVER": "project.mcp.server", "NAMESPACE": f"commands{next(_namespaces)}"},
        "stock": {
            "SERVER": "project.mcp.server",
            "NAMESPACE": f"commands{next(_namespaces)}",
            "PATH": "stock",
        },
    }


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, skip_checks=True)
    return out.getvalue()


def test_list_prints_the_sessions_of_all_endpoints_last_active_first() -> None:
    ada = User.objects.create_user("ada")
    [first] = open_sessions(
        [Opened(client="coder", principal=f"user:{ada.pk}", calls=("ping", "ping"))], "shop"
    )
    [second] = open_sessions([Opened(client="\x1b[31mred")], "stock")
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [second.fingerprint[:12], first.fingerprint[:12]]
    for words in ("coder 1.0", "ada", "2025-11-25", "59 min", " 2 ", "shop"):
        assert words in lines[2]
    assert "\x1b" not in lines[1], "a client's name cannot steer the terminal"
    assert lines[3] == "2 sessions"


def test_list_can_be_narrowed() -> None:
    open_sessions([Opened(), Opened()], "shop")
    open_sessions([Opened()], "stock")
    assert run("list", "--endpoint", "shop").splitlines()[-1] == "2 sessions"
    assert len(run("list", "--limit", "1").splitlines()) == 3


TEXT = "basket-483-920-117"


def basket(name: str = TEXT, **more: Any) -> Opened:
    return Opened(kind="handle", label="basket", name=name, **more)


def test_a_time_longer_than_there_are_dates_is_taken_for_what_it_says() -> None:
    [one] = open_sessions([Opened()], "shop")
    assert one.fingerprint[:12] in run("list", "--active-within", "9999999d")
    assert run("list", "--idle-for", "9999999d").endswith("\n0 records\n")
    assert run("expire", "--idle-for", "9999999d", "--yes").endswith("0 ended, 0 already gone\n")
    assert alive(one, "shop")


def test_list_prints_every_kind_by_its_name_and_counts_them() -> None:
    open_sessions([Opened(kind="user"), Opened(), basket(), basket("basket-1")], "shop")
    open_sessions([Opened(kind="conversation", label="openai/session")], "stock")
    lines = run("list").splitlines()
    assert lines[0].split()[:3] == ["RECORD", "KIND", "CLIENT"]
    assert "conversation (openai/session)" in lines[1]
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["basket-1", "handle", "(basket)"],
        [TEXT, "handle", "(basket)"],
    ]
    assert lines[-1] == "2 handles, 1 session, 1 user state and 1 conversation"


def test_list_can_be_narrowed_to_a_kind_a_label_and_an_owner() -> None:
    ada = User.objects.create_user("ada")
    owner = f"user:{ada.pk}"
    open_sessions(
        [Opened(principal=owner), basket(principal=owner), basket("basket-2"), Opened(kind="caller")], "shop"
    )
    open_sessions([Opened(kind="handle", label="trip", name="trip-1", principal=owner)], "shop")
    for options, count in (
        (["--kind", "handle"], "3 handles"),
        (["--kind", "listener"], "0 records"),
        (["--label", "basket"], "2 handles"),
        (["--principal", "ada"], "2 handles and 1 session"),
        (["--principal", f"user:{ada.pk}"], "2 handles and 1 session"),
        (["--principal", "anonymous"], "1 handle and 1 caller"),
        (["--principal", "ada", "--label", "basket"], "1 handle"),
        (["--user", "ada", "--client", "inspector", "--protocol", "2025-11-25"], "2 handles and 1 session"),
        (["--kind", "session", "--client", "nobody"], "0 records"),
        (["--active-within", "15m"], "3 handles, 1 session and 1 caller"),
        (["--idle-for", "15m"], "0 records"),
    ):
        assert run("list", *options).splitlines()[-1] == count, options
    for options, words in (
        (["--kind", "nonsense"], "invalid choice"),
        (["--user", "ad"], "There is no user ad"),
        (["--active-within", "soon"], "--active-within"),
        (["--limit", "0"], "--limit"),
    ):
        with pytest.raises(CommandError, match=words):
            run("list", *options)


def test_list_prints_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "BATCH", 4)
    opened = open_sessions([Opened(client=f"coder {n}", calls=("ping",) * n) for n in range(9)], "shop")
    found = json.loads(run("list", "--json", "--limit", "7"))
    assert [each["fingerprint"] for each in found] == [each.fingerprint for each in reversed(opened[2:])]
    assert found[0] | {"kind": "session", "endpoint": "shop", "client": "coder 8", "requests": 8} == found[0]
    assert {"user", "created", "last_activity", "expires", "errors"} <= set(found[0])
    oldest = json.loads(run("list", "--json", "--limit", "1", "--oldest-first"))
    assert oldest[0]["fingerprint"] == opened[0].fingerprint
    assert json.loads(run("list", "--json", "--client", "nobody")) == []


def test_list_reads_any_number_in_parts_that_redis_hardly_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "BATCH", 4)
    open_sessions([Opened() for _ in range(10)], "shop")
    lines = run("list", "--limit", "100000").splitlines()
    assert len(lines) == 12
    assert lines[-1] == "10 sessions"


def test_show_prints_a_handle_by_its_text_in_any_spelling() -> None:
    [record] = open_sessions([basket(state={"articles": ["ä"]})], "shop")
    document = json.loads(run("show", "BASKET 483 920 117"))
    assert document["fingerprint"] == record.fingerprint
    assert (document["kind"], document["label"], document["name"]) == ("handle", "basket", TEXT)
    assert document["state"] == {"articles": ["ä"]}
    assert document["state_bytes"] == len('articles["\\u00e4"]')
    assert "tools" not in document


def test_show_prints_no_state_of_what_has_none() -> None:
    [record] = open_sessions([Opened(kind="caller")], "shop")
    document = json.loads(run("show", record.fingerprint))
    assert document["kind"] == "caller"
    assert "state" not in document


def test_expire_ends_handles_by_their_text_together_with_others() -> None:
    [record, kept, state] = open_sessions(
        [basket(), basket("basket-483-920-118"), Opened(kind="user")], "shop"
    )
    said = run("expire", TEXT, state.fingerprint[:12])
    assert said.splitlines() == [
        f"basket {TEXT}: ended",
        f"user state {state.fingerprint[:12]} (anonymous): ended",
    ]
    assert sync_store_for("shop").run(sessions.get(record.fingerprint)) is None
    assert sync_store_for("shop").run(sessions.get(kept.fingerprint)) is not None


def test_a_handle_that_two_owners_have_needs_its_owner() -> None:
    ada = User.objects.create_user("ada")
    [of_ada, _] = open_sessions([basket(principal=f"user:{ada.pk}"), basket(principal="user:999")], "shop")
    with pytest.raises(CommandError, match="--principal"):
        run("expire", TEXT)
    assert run("expire", TEXT, "--principal", "ada").startswith(f"basket {TEXT}: ended")
    assert sync_store_for("shop").run(sessions.get(of_ada.fingerprint)) is None
    assert json.loads(run("show", TEXT))["principal"] == "user:999"


def test_a_record_of_another_kind_than_asked_for_is_not_ended() -> None:
    [record] = open_sessions([basket()], "shop")
    for options in (["--kind", "session"], ["--label", "trip"], ["--endpoint", "stock"]):
        for text in (TEXT, record.fingerprint):
            with pytest.raises(CommandError, match="among the others"):
                run("expire", text, *options)
    assert sync_store_for("shop").run(sessions.get(record.fingerprint)) is not None


def test_show_prints_everything_as_json() -> None:
    [session] = open_sessions(
        [Opened(state={"facts": [1]}, tools=("archive",), capabilities={"roots": {}})], "shop"
    )
    document = json.loads(run("show", session.fingerprint[:8].upper()))
    assert document["fingerprint"] == session.fingerprint
    assert document["client_info"] == {"name": "inspector", "version": "1.0"}
    assert (document["principal_name"], document["endpoint"]) == ("anonymous", "shop")
    assert (document["state"], document["tools"]) == ({"facts": [1]}, ["archive"])
    assert (document["kind"], document["state_bytes"]) == ("session", len("facts[1]"))


def test_expire_ends_sessions_wherever_they_are() -> None:
    [one, kept] = open_sessions([Opened(), Opened()], "shop")
    [two] = open_sessions([Opened()], "stock")
    said = run("expire", one.fingerprint, two.fingerprint[:10])
    assert said.count(": ended") == 2
    assert sync_store_for("shop").run(sessions.get(one.fingerprint)) is None
    assert sync_store_for("stock").run(sessions.get(two.fingerprint)) is None
    assert sync_store_for("shop").run(sessions.get(kept.fingerprint)) is not None


def test_expire_says_in_the_log_that_it_was_the_shell(caplog: pytest.LogCaptureFixture) -> None:
    [session] = open_sessions([Opened()], "shop")
    with caplog.at_level("INFO", "mcp_sessions.ending"):
        run("expire", session.fingerprint)
    assert (
        f"Session {session.fingerprint[:12]} ended: expired_by_operator, by {operator()!r}."
        in caplog.messages
    )


def test_a_store_that_goes_away_leaves_a_job_to_resume() -> None:
    one, two = open_sessions([Opened(), Opened()], "shop")
    failed = mock.patch.object(driving, "end_batch", side_effect=StoreUnavailable("away"))
    out = StringIO()
    with failed, pytest.raises(CommandError, match=r"store cannot be reached: away .*jobs resume \d+"):
        call_command("mcp_sessions", "expire", one.fingerprint, two.fingerprint, stdout=out, skip_checks=True)
    assert out.getvalue().count("intended") == 2
    assert "running" in run("jobs", "list")
    assert run("jobs", "resume").endswith("2 ended, 0 already gone\n")
    assert run("jobs", "list") == ""


def test_expiring_what_is_gone_succeeds() -> None:
    [one] = open_sessions([Opened()], "shop")
    assert run("expire", one.fingerprint, "f" * 64, "eeeeeeee").splitlines() == [
        f"{'f' * 64}: already gone",
        "eeeeeeee: already gone",
        f"{one.fingerprint[:12]} (inspector 1.0): ended",
    ]
    assert run("expire", one.fingerprint) == f"{one.fingerprint}: already gone\n"


def test_whoever_answers_with_ctrl_d_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = open_sessions([Opened()], "shop")
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", mock.Mock(side_effect=EOFError))
    with pytest.raises(CommandError, match="Nothing was ended"):
        run("expire", "--all")
    assert alive(one, "shop")


@pytest.mark.parametrize(
    "words", [("list",), ("list", "--json"), ("stats",), ("watch", "--interval", "0.01")]
)
def test_a_reader_that_leaves_is_no_error(words: tuple[str, ...]) -> None:
    """As `head` does."""
    open_sessions([Opened() for _ in range(40)], "shop")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out, pytest.raises(SystemExit) as caught:
        call_command("mcp_sessions", *words, stdout=out, skip_checks=True)
    assert caught.value.code == 141


def test_expire_tells_programs_what_it_did() -> None:
    one, two, three = open_sessions([Opened(), Opened(), Opened()], "shop")
    assert json.loads(run("show", one.fingerprint, "--json"))["fingerprint"] == one.fingerprint
    told = json.loads(run("expire", one.fingerprint, "f" * 64, "--json", "--reason", "a leak"))
    assert told | {"state": "done", "ended": 1, "gone": 0, "reason": "a leak"} == told
    assert told["outcomes"] == {one.fingerprint: "ended", "f" * 64: "already gone"}
    told = json.loads(run("expire", one.fingerprint, "--json"))
    assert told == {"job": None, "outcomes": {one.fingerprint: "already gone"}}
    told = json.loads(run("expire", "--kind", "session", "--yes", "--json"))
    assert told | {"job": EndingJob.objects.latest("pk").pk, "ended": 2, "expected": 2} == told
    assert not alive(two, "shop")
    assert not alive(three, "shop")


def test_who_has_no_name_in_a_container_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", mock.Mock(side_effect=KeyError))
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    [session] = open_sessions([Opened()], "shop")
    run("expire", session.fingerprint)
    run("block", "client", "rude")
    run("unblock", str(blocks.active()[0].pk))
    assert set(AuditEntry.objects.values_list("by", flat=True)) == {"shell:1234"}


def test_blocks_are_told_to_programs() -> None:
    made = json.loads(run("block", "client", "rude \ud800", "--for", "never", "--endpoint", "shop", "--json"))
    assert made | {"value": "rude \ud800", "endpoint": "shop", "expires": None} == made
    run("block", "address", "192.0.2.0/24")
    address, client = json.loads(run("blocks", "--json"))
    assert client == made
    assert address | {"kind": "address", "value": "192.0.2.0/24", "endpoint": None} == address
    assert address["expires"] > address["created"]


def test_expire_ends_what_the_filters_leave_with_a_reason() -> None:
    mine = open_sessions([Opened(principal="user:1"), Opened(principal="user:1")], "shop")
    [other] = open_sessions([Opened()], "shop")
    with pytest.raises(CommandError, match="Add --yes"):
        run("expire", "--principal", "user:1")
    with pytest.raises(CommandError, match="--all"):
        run("expire")
    said = run("expire", "--principal", "user:1", "--kind", "session", "--yes", "--reason", "a leak")
    assert said.splitlines()[0] == "sessions of shop and stock, principal 'user:1': 2"
    assert said.endswith("2 ended, 0 already gone\n")
    assert [sync_store_for("shop").run(sessions.get(each.fingerprint)) for each in mine] == [None, None]
    assert sync_store_for("shop").run(sessions.get(other.fingerprint)) is not None
    entries = AuditEntry.objects.filter(outcome="ended", by=operator(), reason="a leak")
    assert {each.fingerprint for each in entries} == {each.fingerprint for each in mine}


def test_ctrl_c_stops_a_job_that_can_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_sessions([Opened(), Opened()], "shop")

    def interrupted(*args: Any, **more: Any) -> Any:
        end_batch(*args, **more)
        raise KeyboardInterrupt

    with (
        mock.patch.object(driving, "end_batch", interrupted),
        pytest.raises(SystemExit) as left,
    ):
        run("expire", "--all", "--yes")
    job = EndingJob.objects.get()
    assert left.value.code == 130
    assert (job.state, job.ended) == ("stopped", 2)
    assert f"jobs resume {job.pk}" in capsys.readouterr().err
    assert run("jobs", "resume", str(job.pk)).endswith("2 ended, 0 already gone\n")
    assert AuditEntry.objects.filter(outcome="ended").count() == len(opened)


def test_prune_deletes_what_is_older_than_the_retention(settings: LazySettings) -> None:
    settings.MCP_SESSIONS["shop"]["AUDIT_RETENTION"] = 86_400
    settings.MCP_SESSIONS = dict(settings.MCP_SESSIONS)
    old = timezone.now() - timedelta(days=2)
    for alias in ("shop", "stock", "former", ""):
        audit.record(action="drain", by="ada", endpoint=alias, when=old)
    assert run("prune").splitlines() == [
        "shop: 1 entries deleted",
        "stock: 0 entries deleted",
        "no endpoint, or a former one: 0 entries deleted",
        "jobs: 0 deleted",
    ]
    assert set(AuditEntry.objects.values_list("endpoint", flat=True)) == {"stock", "former", ""}


def test_prune_covers_former_endpoints_and_jobs(settings: LazySettings) -> None:
    for entry in settings.MCP_SESSIONS.values():
        entry["AUDIT_RETENTION"] = 86_400
    settings.MCP_SESSIONS = dict(settings.MCP_SESSIONS)
    now = timezone.now()
    old = now - timedelta(days=2)
    made = {
        name: EndingJob.objects.create(action="force-expire", by="ada", selection={}, described=name, **facts)
        for name, facts in {
            "done": {"state": "done", "created": old, "finished": old},
            "done lately": {"state": "done", "created": old, "finished": now},
            "stopped": {"state": "stopped", "created": old},
            "under way": {"state": "running", "created": old},
        }.items()
    }
    audit.record(action="force-expire", by="ada", endpoint="former", when=old, job=made["done"])
    audit.record(action="drain", by="ada", when=old)
    audit.record(action="force-expire", by="ada", endpoint="former", when=now, job=made["stopped"])
    assert run("prune").splitlines()[2:] == [
        "no endpoint, or a former one: 2 entries deleted",
        "jobs: 2 deleted",
    ]
    assert set(EndingJob.objects.values_list("described", flat=True)) == {"done lately", "under way"}
    assert AuditEntry.objects.get().job is None


def test_prune_without_an_endpoint_deletes_nothing(settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {}
    audit.record(action="drain", by="ada", when=timezone.now() - timedelta(days=4_000))
    with pytest.raises(CommandError, match="no endpoint"):
        run("prune")
    assert AuditEntry.objects.count() == 1


def test_a_job_of_a_removed_endpoint_keeps_no_other(
    settings: LazySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (open_sessions([Opened()], alias)[0] for alias in ("shop", "stock"))
    lost, other = (
        driving.begin(snapshot(SessionQuery(aliases=(alias,), kinds=("session",))), by="ada")
        for alias in ("shop", "stock")
    )
    endpoints = settings.MCP_SESSIONS
    settings.MCP_SESSIONS = {"stock": endpoints["stock"]}
    words = "The endpoint “shop” is not in MCP_SESSIONS any more."
    assert words in run("jobs", "list")
    assert json.loads(run("jobs", "list", "--json"))[-1]["problem"].startswith(words)
    with pytest.raises(CommandError, match="1 of 2 jobs could not go on"):
        run("jobs", "resume")
    assert words in capsys.readouterr().err
    other.refresh_from_db()
    assert (other.state, other.ended, alive(two, "stock")) == ("done", 1, False)
    with pytest.raises(CommandError, match="The endpoint “shop” is not in MCP_SESSIONS any more"):
        run("jobs", "resume", str(lost.pk))
    assert run("jobs", "stop", str(lost.pk)) == f"job {lost.pk}: stopped, 0 ended\n"
    settings.MCP_SESSIONS = endpoints
    run("jobs", "resume", str(lost.pk))
    assert not alive(one, "shop")


@pytest.mark.parametrize("digits", ["abc", "not hexadecimal", "a" * 65])
def test_what_is_neither_a_fingerprint_nor_a_handle_is_refused(digits: str) -> None:
    with pytest.raises(CommandError, match="RECORD"):
        run("show", digits)


def test_two_sessions_with_the_same_beginning_must_be_told_apart() -> None:
    open_sessions([Opened(fingerprint="ab" * 4 + "0" * 56), Opened(fingerprint="ab" * 4 + "1" * 56)], "shop")
    with pytest.raises(CommandError, match="More than one"):
        run("expire", "abababab")


def test_a_store_that_is_down_is_one_sentence(settings: LazySettings) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    with pytest.raises(CommandError, match="store cannot be reached"):
        run("list")


def test_sessions_in_memory_cannot_be_seen_from_a_shell(settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {"local": {"SERVER": "project.mcp.server", "CACHE": "memory"}}
    err = StringIO()
    call_command("mcp_sessions", "list", stdout=StringIO(), stderr=err, skip_checks=True)
    assert "in the memory of the server processes" in err.getvalue()


def test_without_a_subcommand_it_says_which_there_are() -> None:
    with pytest.raises(CommandError, match="command"):
        run()


def test_expire_all_ends_every_session_of_the_endpoint_and_no_other() -> None:
    shop, _ = open_sessions([Opened(), Opened()], "shop")
    [stock] = open_sessions([Opened()], "stock")
    assert run("expire-all", "--endpoint", "shop").splitlines() == ["shop: 2 sessions ended"]
    assert run("expire-all", "--endpoint", "shop").splitlines() == ["shop: no session ended"]
    assert sync_store_for("shop").run(sessions.get(shop.fingerprint)) is None
    assert sync_store_for("stock").run(sessions.get(stock.fingerprint)) is not None
    moment = sync_store_for("shop").run(validity.min_created(0))
    assert 0 <= moment.now_ms - moment.min_created_ms < 60_000
    assert sync_store_for("stock").run(validity.min_created(0)).min_created_ms == 0
