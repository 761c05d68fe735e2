"""`jobs` and `prune`: jobs that end records, and what is old in the audit."""

import getpass
import json
import os
from argparse import _SubParsersAction
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q
from django.utils import timezone

from mcp_sessions import audit, conf
from mcp_sessions.audit.models import FINISHED, RUNNING, STOPPED, STOPPING, EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.jobs import driving

#: Seconds between two lines of progress.
_EVERY: Final = 5.0
#: The exit code of a job that was stopped before it was done; that of a shell after Ctrl-C.
STOPPED_CODE: Final = 130


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    jobs = commands.add_parser("jobs", help="list, resume and stop jobs that end records")
    acts = jobs.add_subparsers(dest="act", required=True)
    list_ = acts.add_parser("list", help="the jobs that are not done, or with --all the newest ones")
    list_.add_argument("--all", action="store_true", dest="every")
    list_.add_argument("--json", action="store_true", dest="as_json")
    list_.set_defaults(run=_list)
    resume = acts.add_parser("resume", help="go on with a job, or with every one that is under way")
    resume.add_argument("job", nargs="?", type=int, metavar="JOB")
    resume.set_defaults(run=_resume)
    stop = acts.add_parser("stop", help="stop a job after the batch in hand")
    stop.add_argument("job", type=int, metavar="JOB")
    stop.set_defaults(run=_stop)
    prune = commands.add_parser("prune", help="delete what is older than AUDIT_RETENTION from the audit")
    prune.set_defaults(run=_prune)


def operator() -> str:
    """Who types the commands, for the log and the audit: "shell:ada"."""
    try:
        return f"shell:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # nobody has given the account a name, as in many containers
        return f"shell:{os.getuid()}"


def carry_out(
    command: BaseCommand, job: EndingJob, *, told: Callable[[EndingJob], object] | None = None
) -> None:
    """Drive a job to its end, with progress, and say what became of it; `told` says it in another way.

    Raises: CommandError if the store goes away; SystemExit if the job is stopped.
    """
    last = monotonic()

    def progress(job: EndingJob) -> None:
        nonlocal last
        if monotonic() - last >= _EVERY:
            last = monotonic()
            command.stderr.write(f"{job}: {job.ended:,} of {job.expected:,} ended")

    try:
        job = driving.drive(job, progress=progress)
    except StoreUnavailable as error:
        (told or _tell(command))(EndingJob.objects.get(pk=job.pk))
        raise CommandError(f"The session store cannot be reached: {error} {_how_to_go_on(job)}") from error
    except KeyboardInterrupt:
        job = driving.stop(job)
    (told or _tell(command))(job)
    if job.state == RUNNING:
        raise CommandError(f"Another process works on {job}, or did so a moment ago. {_how_to_go_on(job)}")
    if job.state != FINISHED:
        command.stderr.write(f"{job} was stopped. {_how_to_go_on(job)}")
        raise SystemExit(STOPPED_CODE)


def _tell(command: BaseCommand) -> Callable[[EndingJob], None]:
    def tell(job: EndingJob) -> None:
        lost = f", {job.unknown:,} gone, not known by whom" if job.unknown else ""
        command.stdout.write(f"{job}: {job.ended:,} ended, {job.gone:,} already gone{lost}")

    return tell


def _how_to_go_on(job: EndingJob) -> str:
    return f"“manage.py mcp_sessions jobs resume {job.pk}” goes on with it."


def _list(command: BaseCommand, *, every: bool, as_json: bool, **_: Any) -> None:
    jobs = EndingJob.objects.all() if every else EndingJob.objects.exclude(state=FINISHED)
    found = [
        {
            "job": job.pk,
            "state": job.state,
            "ended": job.ended,
            "gone": job.gone,
            "unknown": job.unknown,
            "expected": job.expected,
            "by": job.by,
            "reason": job.reason,
            "records": job.described,
            "created": job.created.isoformat(timespec="seconds"),
            "problem": job.problem,
        }
        for job in jobs[:100]
    ]
    if as_json:
        command.stdout.write(json.dumps(found, indent=2))
        return
    for each in found:
        command.stdout.write(
            f"{each['job']:>6}  {each['state']:<8}  {each['ended']:>9,} of {each['expected']:>9,}  {each['by']:<20}  "
            f"{each['records']}"
        )


def _resume(command: BaseCommand, *, job: int | None, **_: Any) -> None:
    if job is None:
        under_way = EndingJob.objects.filter(Q(driver="") | Q(driven_until__lt=timezone.now()))
        for each in under_way.filter(state__in=(RUNNING, STOPPING)).order_by("pk"):
            carry_out(command, each)
        return
    one = _job(job)
    if one.state in (STOPPED, STOPPING):
        driving.resume(one)
    carry_out(command, one)


def _stop(command: BaseCommand, *, job: int, **_: Any) -> None:
    stopped = driving.stop(_job(job))
    command.stdout.write(f"{stopped}: {stopped.state}, {stopped.ended:,} ended")


def _job(pk: int) -> EndingJob:
    job = EndingJob.objects.filter(pk=pk).first()
    if job is None:
        raise CommandError(f"There is no job {pk}.")
    return job


def _prune(command: BaseCommand, **_: Any) -> None:
    kept = {alias: conf.endpoint(alias).audit_retention for alias in conf.aliases()}
    # Some acts are about no endpoint.
    for alias, seconds in {**kept, "": max(kept.values(), default=0.0)}.items():
        deleted = audit.prune(timezone.now() - timedelta(seconds=seconds), endpoint=alias)
        command.stdout.write(f"{alias or 'no endpoint'}: {deleted:,} entries deleted")
