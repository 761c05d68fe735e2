"""What `manage.py mcp_sessions` asks, and what it says of many jobs, over a real Redis."""

import json
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.core.management import CommandError, call_command

from mcp_sessions.audit.models import FINISHED, RUNNING, STOPPING, EndingJob
from mcp_sessions.ending import end_batch
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot
from tests.admin.pages import alive
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, skip_checks=True)
    return out.getvalue()


def begun(*records: Opened) -> EndingJob:
    """A job that nobody drives yet."""
    picked = Picked(fingerprints=tuple(each.fingerprint for each in records))
    return driving.begin(snapshot(SessionQuery(aliases=("default",), matches=(picked,))), by="olga")


def test_what_is_asked_is_not_among_what_is_written_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [one] = open_sessions([Opened()])
    terminal = StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    call_command("mcp_sessions", "expire", "--all", "--json", skip_checks=True)
    said = capsys.readouterr()
    assert json.loads(said.out)["ended"] == 1
    assert "End them? [y/N]" in said.err
    assert not alive(one)


def test_whoever_answers_with_ctrl_c_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = open_sessions([Opened()])
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(CommandError, match="Nothing was ended"):
        run("expire", "--all")
    assert alive(one)


def test_all_jobs_that_are_not_done_are_listed() -> None:
    """An outage in which many people log out leaves one for each of them."""
    nothing: dict[str, Any] = {"sources": [], "cut_off_ms": {}}
    fields: dict[str, Any] = {"action": "logout", "by": "logout of ada", "selection": nothing}
    EndingJob.objects.bulk_create([EndingJob(**fields) for _ in range(120)])
    EndingJob.objects.create(**fields, state=FINISHED)
    assert len(json.loads(run("jobs", "list", "--json"))) == 120
    assert len(run("jobs", "list").splitlines()) == 120
    assert len(json.loads(run("jobs", "list", "--all", "--json"))) == 100


def test_a_job_that_somebody_stops_keeps_no_other_from_being_resumed() -> None:
    one, two = open_sessions([Opened(), Opened()])
    first, second = begun(one), begun(two)

    def while_somebody_stops_it(*arguments: Any, **more: Any) -> Any:
        EndingJob.objects.filter(pk=first.pk, state=RUNNING).update(state=STOPPING)
        return end_batch(*arguments, **more)

    with mock.patch.object(driving, "end_batch", while_somebody_stops_it), pytest.raises(SystemExit) as ended:
        run("jobs", "resume")
    assert ended.value.code == 130
    states = dict(EndingJob.objects.values_list("pk", "state"))
    assert states == {first.pk: "stopped", second.pk: "done"}
    assert not alive(two)


def test_ctrl_c_ends_the_command_and_not_only_the_job() -> None:
    one, two = open_sessions([Opened(), Opened()])
    begun(one)
    second = begun(two)
    pressed = mock.Mock(wraps=end_batch, side_effect=[KeyboardInterrupt, mock.DEFAULT])
    with mock.patch.object(driving, "end_batch", pressed), pytest.raises(SystemExit) as ended:
        run("jobs", "resume")
    assert ended.value.code == 130
    assert EndingJob.objects.get(pk=second.pk).state == "running"
    assert alive(two)
