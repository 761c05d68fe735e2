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
from django.utils import timezone

from mcp_sessions import audit, conf
from mcp_sessions.audit.models import FINISHED, RUNNING, STOPPED, STOPPING, EndingJob
from mcp_sessions.errors import JobCannotGoOn, StoreUnavailable
from mcp_sessions.inventory import display
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.table import jobs as all_jobs
from mcp_sessions.jobs.table import left, obstacle

#: Jobs that `jobs list --all` lists.
NEWEST: Final = 100
#: Seconds between two lines of progress.
_EVERY: Final = 5.0
#: The exit code of a job that was stopped before it was done; that of a shell after Ctrl-C.
STOPPED_CODE: Final = 130


class StoppedElsewhere(SystemExit):
    """Somebody else has stopped the job that a command drove."""


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    jobs = commands.add_parser("jobs", help="list, resume and stop jobs that end records")
    acts = jobs.add_subparsers(dest="act", required=True)
    list_ = acts.add_parser("list", help=f"the jobs that are not done, or with --all the newest {NEWEST}")
    list_.add_argument("--all", action="store_true", dest="every")
    list_.add_argument("--json", action="store_true", dest="as_json")
    list_.set_defaults(run=_list)
    resume = acts.add_parser("resume", help="go on with a job, or with every one that is under way")
    resume.add_argument("job", nargs="?", type=int, metavar="JOB")
    resume.set_defaults(run=_resume)
    stop = acts.add_parser("stop", help="stop a job after the batch in hand")
    stop.add_argument("job", type=int, metavar="JOB")
    stop.set_defaults(run=_stop)
    prune = commands.add_parser(
        "prune", help="delete entries of the audit and jobs older than AUDIT_RETENTION"
    )
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

    Raises: CommandError if the store goes away, or this process cannot go on with it; SystemExit if it is stopped.
    """
    last = monotonic()
    stopped: type[SystemExit] = StoppedElsewhere

    def progress(job: EndingJob) -> None:
        nonlocal last
        if monotonic() - last >= _EVERY:
            last = monotonic()
            command.stderr.write(f"{job}: {job.ended:,} of {job.expected:,} ended")

    try:
        job = driving.drive(job, progress=progress)
    except StoreUnavailable as error:
        (told or _tell(command))(all_jobs().get(pk=job.pk))
        raise CommandError(f"The session store cannot be reached: {error} {_how_to_go_on(job)}") from error
    except JobCannotGoOn as error:
        raise CommandError(f"{job}: {error}") from error
    except KeyboardInterrupt:
        job, stopped = driving.stop(job), SystemExit
    (told or _tell(command))(job)
    if job.state == RUNNING:
        raise CommandError(f"Another process works on {job}, or did so a moment ago. {_how_to_go_on(job)}")
    if job.state != FINISHED:
        command.stderr.write(f"{job} was stopped. {_how_to_go_on(job)}")
        raise stopped(STOPPED_CODE)


def _tell(command: BaseCommand) -> Callable[[EndingJob], None]:
    def tell(job: EndingJob) -> None:
        lost = f", {job.unknown:,} gone, not known by whom" if job.unknown else ""
        command.stdout.write(f"{job}: {job.ended:,} ended, {job.gone:,} already gone{lost}")

    return tell


def _how_to_go_on(job: EndingJob) -> str:
    return f"“manage.py mcp_sessions jobs resume {job.pk}” goes on with it."


def document(job: EndingJob) -> dict[str, Any]:
    """A job for programs."""
    return {
        "job": job.pk,
        "state": job.state,
        "ended": job.ended,
        "gone": job.gone,
        "unknown": job.unknown,
        "expected": job.expected,
        "by": job.by,
        "reason": job.reason,
        "records": job.described,
        "created": display.zoned(job.created).isoformat(timespec="seconds"),
        "problem": job.problem or (obstacle(job) if job.state in (RUNNING, STOPPING) else ""),
    }


def _list(command: BaseCommand, *, every: bool, as_json: bool, **_: Any) -> None:
    jobs = all_jobs()[:NEWEST] if every else all_jobs().exclude(state=FINISHED)
    found = (document(job) for job in jobs.iterator(chunk_size=NEWEST))
    if as_json:
        command.stdout.write(json.dumps(list(found), indent=2))
        return
    for each in found:
        command.stdout.write(
            f"{each['job']:>6}  {each['state']:<8}  {each['ended']:>9,} of {each['expected']:>9,}  {each['by']:<20}  "
            f"{each['records']}" + (f": {each['problem']}" if each["problem"] else "")
        )


def _resume(command: BaseCommand, *, job: int | None, **_: Any) -> None:
    if job is None:
        _resume_all(command)
        return
    one = _job(job)
    if one.state in (STOPPED, STOPPING):
        driving.resume(one)
    carry_out(command, one)


def _resume_all(command: BaseCommand) -> None:
    """One that cannot go on, or is stopped by somebody else, keeps no other.

    Raises: CommandError or StoppedElsewhere, when all were tried; SystemExit after Ctrl-C.
    """
    under_way = list(left().order_by("pk"))
    stuck, stopped = 0, None
    for each in under_way:
        try:
            if each.state == STOPPING:
                _tell(command)(driving.stop(each))
            else:
                carry_out(command, each)
        except StoppedElsewhere as ended:
            stopped = ended
        except (CommandError, StoreUnavailable) as error:
            command.stderr.write(str(error))
            stuck += 1
    if stuck:
        raise CommandError(f"{stuck} of {len(under_way)} jobs could not go on.")
    if stopped is not None:
        raise stopped


def _stop(command: BaseCommand, *, job: int, **_: Any) -> None:
    stopped = driving.stop(_job(job))
    command.stdout.write(f"{stopped}: {stopped.state}, {stopped.ended:,} ended")


def _job(pk: int) -> EndingJob:
    job = all_jobs().filter(pk=pk).first()
    if job is None:
        raise CommandError(f"There is no job {pk}.")
    return job


def _prune(command: BaseCommand, **_: Any) -> None:
    """The longest retention holds for entries about no endpoint or a former one, and for jobs of whichever."""
    now = timezone.now()
    kept = {alias: timedelta(seconds=conf.endpoint(alias).audit_retention) for alias in conf.aliases()}
    for alias, age in kept.items():
        command.stdout.write(f"{alias}: {audit.prune(now - age, endpoint=alias):,} entries deleted")
    if not kept:
        raise CommandError("MCP_SESSIONS has no endpoint: nothing says for how long entries are kept.")
    longest = max(kept.values())
    command.stdout.write(f"no endpoint, or a former one: {audit.prune(now - longest):,} entries deleted")
    command.stdout.write(f"jobs: {audit.prune_jobs(now - longest):,} deleted")
