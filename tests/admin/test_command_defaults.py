"""What commands do without an option, how they ask and report, and what they write for programs."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core import checks
from django.core.management import CommandError, call_command

from mcp_sessions import blocks
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory import leftovers, search
from mcp_sessions.inventory.listing import LocatedPage
from mcp_sessions.inventory.lookups import Named
from mcp_sessions.jobs import driving
from mcp_sessions.management.subcommands import doctor, ends, jobs, listing, nodes, watching
from mcp_sessions.tokens import PersonalToken, create_token
from tests.admin.pages import alive, endpoint
from tests.admin.test_columns import call, node, row
from tests.admin.test_command_words import overview
from tests.inventory.stores import session
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def run(*arguments: str) -> tuple[list[str], str]:
    """The lines that it prints, and what it says beside them."""
    out, err = StringIO(), StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, stderr=err, skip_checks=True)
    return out.getvalue().splitlines(), err.getvalue()


def test_a_list_has_fifty_records_and_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    open_sessions([Opened() for _ in range(51)])
    lines, _ = run("list")
    assert (len(lines), lines[-1]) == (52, "51 sessions")
    counted = LocatedPage(rows=(), counts={"session": 7}, exact=False)
    monkeypatch.setattr(listing, "_pages", lambda *_: iter([counted]))
    assert run("list")[0][-1] == "at least 7 sessions"


def test_a_block_is_for_a_day_and_a_long_time_is_what_it_says() -> None:
    run("block", "client", "one")
    run("block", "client", "two", "--for", "12h")
    lengths = [each.expires - each.created for each in blocks.active() if each.expires is not None]
    assert [round(each / timedelta(hours=1)) for each in lengths] == [12, 24]
    with pytest.raises(CommandError, match="There is no block 7777"):
        run("unblock", "8888", "7777")


def test_what_a_token_is_called_is_as_long_as_its_column() -> None:
    User.objects.create_user("ada")
    run("token", "create", "ada", "--name", "n" * 101)
    assert PersonalToken.objects.get().name == "n" * 100


@pytest.mark.parametrize(
    ("text", "is_yes"),
    [("y", True), (" YES ", True), ("n", False), ("", False), ("yep", False), ("no", False)],
)
def test_only_yes_ends_what_is_asked_about(monkeypatch: pytest.MonkeyPatch, text: str, is_yes: bool) -> None:
    [one] = open_sessions([Opened()])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda: text)
    if is_yes:
        run("expire", "--all")
    else:
        with pytest.raises(CommandError, match="Nothing was ended"):
            run("expire", "--all")
    assert alive(one) is not is_yes


def test_nobody_is_asked_where_nobody_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    monkeypatch.setattr("builtins.input", lambda: "y")
    assert not ends._confirmed(SimpleNamespace(stderr=StringIO()))  # type: ignore[arg-type]  # what it uses


def test_a_record_that_is_named_twice_ends_once_and_each_text_that_is_gone_is_said() -> None:
    one, handle = open_sessions([Opened(), Opened(kind="handle", label="basket", name="basket-1234")])
    lines, _ = run("expire", one.fingerprint, one.fingerprint[:12], "basket-1234", "basket-12345")
    assert lines == [
        "basket-12345: already gone",
        f"{one.fingerprint[:12]} (inspector 1.0): ended",
        "basket basket-1234: ended",
    ]
    assert not alive(handle)
    job = EndingJob.objects.get()
    assert (job.ended, job.expected, job.described) == (2, 2, "2 selected")


def test_everything_or_nothing_has_to_be_said() -> None:
    [one] = open_sessions([Opened()])
    with pytest.raises(CommandError, match="--all"):
        run("expire", "--yes")
    assert alive(one)
    run("expire", "--all", "--yes")
    assert not alive(one)


JSON = {
    "list of jobs": ("jobs", "list", "--all", "--json"),
    "blocks": ("blocks", "--json"),
    "a block": ("block", "client", "other", "--json"),
    "nodes": ("nodes", "--json"),
    "now": ("now", "--json"),
    "stats": ("stats", "--json"),
    "tools": ("tools", "--json"),
    "an end": ("expire", "f" * 64, "--json"),
}


def is_indented(lines: list[str]) -> bool:
    """Whether it is what json.dumps writes with two spaces."""
    text = "\n".join(lines)
    return text == json.dumps(json.loads(text), indent=2)


@pytest.mark.parametrize("words", JSON.values(), ids=JSON)
def test_json_is_indented_so_that_people_can_read_it_too(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    EndingJob.objects.create(action="logout", by="ada", selection={"sources": [], "cut_off_ms": {}})
    blocks.block("client", "rude", duration=None, by="ada")
    monkeypatch.setattr(nodes, "nodes_of", lambda _: [node(call(1, seconds=5))])
    monkeypatch.setattr(watching, "overview_of", lambda *_: overview())
    lines, _ = run(*words)
    assert len(lines) > 2
    assert is_indented(lines)


def test_a_record_of_another_kind_than_sessions_has_what_is_meaningful_for_it() -> None:
    [of_user] = open_sessions([Opened(kind="user", state={"a": 1})])
    lines, said = run("show", of_user.fingerprint)
    assert is_indented(lines)
    document = json.loads("\n".join(lines))
    assert (document["state"], "tools" in document, "resources" in document) == ({"a": 1}, False, False)
    assert "in the memory of the server processes" in said


def message(level: int, hint: str | None = None) -> checks.CheckMessage:
    return checks.CheckMessage(level, f"level {level}", hint=hint, id=f"mcp_sessions.{level}")


def test_the_doctor_says_of_djangos_checks_what_is_more_than_a_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels = (
        checks.DEBUG,
        checks.INFO,
        checks.INFO + 1,
        checks.WARNING,
        checks.WARNING + 1,
        checks.ERROR,
        50,
    )
    found = [message(each) for each in levels]
    monkeypatch.setattr(checks, "run_checks", lambda *, tags: found if tags == ["mcp_sessions"] else [])
    assert [(each.level, each.what, each.cure) for each in doctor._of_settings()] == [
        ("note", "level 20", ""),
        ("note", "level 21", ""),
        ("warning", "level 30", ""),
        ("warning", "level 31", ""),
        ("error", "level 40", ""),
        ("error", "level 50", ""),
    ]
    found[:] = [message(checks.WARNING, hint="Mend it.")]
    [one] = doctor._of_settings()
    assert (one.code, one.cure) == ("mcp_sessions.30", "Mend it.")


def diagnosis(*arguments: str) -> tuple[list[str], int]:
    out, code = StringIO(), 0
    try:
        call_command("mcp_sessions", "doctor", *arguments, stdout=out, skip_checks=True)
    except SystemExit as ended:
        code = int(str(ended.code))
    return out.getvalue().splitlines(), code


@pytest.mark.parametrize(
    ("levels", "code", "lines"),
    [
        ([], 0, ["Nothing is wrong that can be seen from here."]),
        ([checks.INFO], 0, ["note: level 20", "    "]),
        ([checks.INFO, checks.WARNING], 1, ["warning: level 30", "    ", "note: level 20", "    "]),
        ([checks.WARNING, checks.ERROR], 1, ["error: level 40", "    ", "warning: level 30", "    "]),
    ],
)
def test_the_doctor_fails_for_what_there_is_to_mend(
    monkeypatch: pytest.MonkeyPatch, levels: list[int], code: int, lines: list[str]
) -> None:
    monkeypatch.setattr(checks, "run_checks", lambda **_: [message(each) for each in levels])
    shown = SimpleNamespace(findings=[], servers={})
    asked: list[Any] = []

    def overview_of(aliases: Any, span: Any) -> Any:
        asked.append((aliases, span.name))
        return shown

    monkeypatch.setattr(doctor, "overview_of", overview_of)
    assert diagnosis() == (lines, code)
    assert asked == ([] if checks.ERROR in levels else [(("default",), "hour")]), "settings come first"


def test_keys_that_may_not_be_read_are_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_keys(cache: str) -> Any:
        if cache == "refusing":
            raise StoreUnavailable("NOPERM")
        yield from ()

    monkeypatch.setattr(checks, "run_checks", lambda **_: [])
    shown = SimpleNamespace(findings=[], servers={"refusing": [], "open": []})
    monkeypatch.setattr(doctor, "overview_of", lambda *_: shown)
    monkeypatch.setattr(leftovers, "of_keys", of_keys)
    lines, code = diagnosis()
    assert (lines[0], code) == ("note: The keys of the cache 'refusing' could not be read: NOPERM.", 0)
    assert len(lines) == 2
    assert is_indented(diagnosis("--json")[0])
    assert capsys.readouterr().err == "", "that sessions are in memory is something that it says itself"


def test_progress_is_said_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    open_sessions([Opened() for _ in range(5)])
    seconds = chain([0.0, 4.9, 5.0, 5.0, 9.9, 10.0, 10.0], repeat(14.9))
    monkeypatch.setattr(jobs, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(driving, "BATCH", 1)
    lines, said = run("expire", "--all", "--yes")
    assert lines[-1].endswith(": 5 ended, 0 already gone")
    job = EndingJob.objects.get()
    assert said.splitlines()[1:] == [f"{job}: 1 of 5 ended", f"{job}: 3 of 5 ended"]


def test_what_became_of_a_job_is_said_with_what_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    job = EndingJob(pk=7, state="done", ended=1_001, gone=2_002, unknown=3_003, selection={})
    out = StringIO()
    jobs._tell(SimpleNamespace(stdout=SimpleNamespace(write=out.write)))(job)  # type: ignore[arg-type]
    assert out.getvalue() == "job 7: 1,001 ended, 2,002 already gone, 3,003 gone, not known by whom"
    monkeypatch.setattr(driving, "drive", lambda job, **_: job)
    job.state = "running"
    with pytest.raises(
        CommandError, match=r"Another process works on job 7, or did so a moment ago\. “manage\.py"
    ):
        jobs.carry_out(SimpleNamespace(stdout=out, stderr=out), job)  # type: ignore[arg-type]


def test_a_job_that_was_to_stop_is_stopped_before_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: dict[str, Any] = {
        "action": "logout",
        "by": "ada",
        "selection": {"sources": [], "cut_off_ms": {}},
    }
    stopping = EndingJob.objects.create(**nothing, state="stopping")
    running = EndingJob.objects.create(**nothing)
    lines, _ = run("jobs", "resume")
    assert lines == [f"{each}: 0 ended, 0 already gone" for each in (stopping, running)]
    assert [each.state for each in EndingJob.objects.order_by("pk")] == ["stopped", "done"]
    run("jobs", "resume", str(stopping.pk))
    assert {each.state for each in EndingJob.objects.all()} == {"done"}
    with pytest.raises(CommandError, match="There is no job 999"):
        run("jobs", "resume", "999")


@pytest.mark.parametrize(("words", "pauses"), [((), [5.0, 5.0]), (("--interval", "0.25"), [0.25, 0.25])])
def test_watch_waits_between_lines(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], pauses: list[float]
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "overview_of", lambda *_: overview())
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, time=lambda: 5.0))
    assert len(run("watch", "--count", "3", *words)[0]) == 3
    assert slept == pauses
    assert len(run("watch", *words)[0]) == 1, "until it is interrupted"


def test_what_runs_is_cut_to_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(call(1, seconds=5), client="c" * 30, principal_name="p" * 30)
    cells = nodes._cells(long)
    assert cells[3:5] == ("c" * 23 + "…", "p" * 23 + "…")


@pytest.mark.parametrize(
    ("text", "is_handle"),
    [
        ("basket-1234", True),
        ("basket-123", False),
        ("1234-56789", True),
        ("1234-5678", False),
        ("x" * 196 + "1234", True),
        ("x" * 197 + "1234", False),
    ],
)
def test_a_text_may_be_that_of_a_handle_if_it_has_enough_digits(text: str, is_handle: bool) -> None:
    assert (Named(text=text) in search.lookups(text)) is is_handle


def test_a_text_that_is_no_record_is_said_as_far_as_it_fits_a_line() -> None:
    with pytest.raises(CommandError) as caught:
        run("show", "z" * 61)
    assert str(caught.value).endswith(f"not {'z' * 60!r}")


def test_a_row_is_no_new_one() -> None:
    """Django asks for that, for instance before it compares two."""
    assert row(session(0))._state.adding is False


def test_a_token_is_revoked_although_its_sessions_cannot_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = create_token(User.objects.create_user("ada"), name="laptop")

    def away(token: PersonalToken, *, by: str) -> int:
        raise StoreUnavailable("away")

    monkeypatch.setattr("mcp_sessions.management.subcommands.token.revoke_token", away)
    words = f"{made}: revoked, but not all of its sessions could be ended: away. Revoke it again when Redis answers."
    with pytest.raises(CommandError, match=re.escape(words)):
        run("token", "revoke", made.prefix)
    monkeypatch.setattr("mcp_sessions.management.subcommands.token.revoke_token", lambda *_, **__: 3)
    assert run("token", "revoke", made.prefix + "more")[0] == [f"{made}: revoked, 3 sessions ended"]
    monkeypatch.setattr("mcp_sessions.management.subcommands.token.revoke_token", lambda *_, **__: 0)
    assert run("token", "revoke", made.prefix)[0] == [f"{made}: revoked"]


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_whose_account_has_no_name_is_known_by_its_number(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Which of them is raised depends on the release of Python and on the system."""

    def nobody() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 7)
    assert jobs.operator() == "shell:7"


def test_a_job_whose_last_batch_cannot_be_settled_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: dict[str, Any] = {
        "action": "logout",
        "by": "ada",
        "selection": {"sources": [], "cut_off_ms": {}},
    }
    EndingJob.objects.create(**nothing, state="stopping")
    running = EndingJob.objects.create(**nothing)

    def away(job: EndingJob) -> EndingJob:
        raise StoreUnavailable("away")

    monkeypatch.setattr(driving, "stop", away)
    with pytest.raises(CommandError, match="1 of 2 jobs could not go on"):
        run("jobs", "resume")
    running.refresh_from_db()
    assert running.state == "done"


def test_what_no_index_serves_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UnsupportedLookup("Nobody can list that.")

    monkeypatch.setattr(listing, "chosen", refuse)
    with pytest.raises(CommandError, match=r"^Nobody can list that\.$"):
        run("list")
