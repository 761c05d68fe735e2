"""What each page, filter and search costs at a number of sessions, and whether what it says is true."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final
from unittest import mock

from django.contrib.auth.models import User
from django.test import Client
from redis import Redis
from redis.connection import Connection

from benchmarks.admin.filling import Filled, Truth, user_name

LIST: Final = "/admin/mcp_sessions/mcpsession/"
#: How often all are asked for, one after the other. The shortest times count: in the others, something else had the
#: core, or the core was slow.
ROUNDS: Final = 7
#: Redis logs the commands that take longer, in microseconds. To log all of them, it would need memory in the middle of
#: what is measured, and take that for the duration of commands.
SLOW_US: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A page, and how many records it ought to say there are; None: it need not say."""

    name: str
    address: str
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a page cost, and said."""

    name: str
    server_ms: float
    #: Of it, the processor time of Django.
    cpu_ms: float
    round_trips: int
    slowest_ms: float
    said: int | None
    exact: bool
    expected: int | None
    #: What 100,000 additions took just before.
    loop_ms: float

    @property
    def is_true(self) -> bool:
        if self.expected is None or self.said is None:
            return True
        return self.said == self.expected if self.exact else self.said <= self.expected


def cases(truth: Truth, deep: Callable[[str], str], oldest_first: Callable[[str], str]) -> Iterator[Case]:
    """Every page and filter, and combinations of them, from those of all sessions to those of one."""
    some = truth.samples[0]
    count = truth.count
    named = next(each for each in truth.samples if each.principal.startswith("user:"))
    user = user_name(int(named.principal.removeprefix("user:")) - 1)
    yield Case(name="list", address="", expected=truth.sessions)
    yield Case(name="oldest first", address=oldest_first(""), expected=truth.sessions)
    yield Case(name="page 2", address=deep(""), expected=truth.sessions)
    yield Case(name="from the middle", address=_middle(truth), expected=truth.sessions)
    yield Case(name="one endpoint", address="?endpoint=shop", expected=count(endpoint="shop"))
    yield Case(name="one kind", address="?kind=session", expected=truth.sessions)
    yield Case(name="frequent client", address="?client=claude-code", expected=count(client="claude-code"))
    yield Case(name="rare client", address="?client=nightly-report", expected=count(client="nightly-report"))
    yield Case(name="protocol", address="?protocol=2025-06-18", expected=count(protocol="2025-06-18"))
    yield Case(name="last quarter of the idle TTL", address="?activity=last-900", expected=None)
    yield Case(name="not for half of it", address="?activity=idle-1800", expected=None)
    yield Case(name="one user", address=f"?user={user}", expected=truth.principals[named.principal])
    yield Case(name="anonymous", address="?user=anonymous", expected=truth.principals["anonymous"])
    both = {"client": "claude-code", "protocol": "2025-03-26"}
    address = "?client=claude-code&protocol=2025-03-26"
    yield Case(name="client and protocol", address=address, expected=count(**both))
    yield Case(name="… page 2", address=deep(address), expected=count(**both))
    rare = {"client": "nightly-report", "protocol": "2025-03-26"}
    address = "?client=nightly-report&protocol=2025-03-26"
    yield Case(name="rare client and protocol", address=address, expected=count(**rare))
    address = (
        "?endpoint=stock&kind=session&client=goose&protocol=2025-06-18&activity=idle-1800&user=anonymous&o=5"
    )
    yield Case(name="every filter at once", address=address)
    yield Case(name="user and client", address=f"?user={user}&client={named.client}")
    yield Case(name="search: 12 digits", address=f"?q={some.fingerprint[:12]}", expected=1)
    yield Case(
        name="search: 12 digits of the oldest", address=f"?q={_oldest(truth).fingerprint[:12]}", expected=1
    )
    yield Case(name="search: client", address="?q=claude", expected=_claudes(truth))
    yield Case(name="search: user", address=f"?q={user}")
    yield Case(name="search and filters", address="?q=claude&protocol=2025-06-18&endpoint=shop")
    yield Case(name="search: nothing", address="?q=nobody-has-this-name", expected=0)
    yield Case(name="record", address=f"{some.fingerprint}/change/")
    yield Case(name="overview", address="overview/")
    yield Case(name="overview of a week", address="overview/?span=week")
    yield Case(name="now", address="now/")
    yield Case(name="nodes", address="processes/")
    yield Case(name="API", address="api/records/?client=goose", expected=count(client="goose"))


def measure(truth: Truth, redis: Redis) -> Iterator[Row]:
    """Each case as one operator asks for it, over Django's own test client: the time is that of the view."""
    client = Client()
    client.force_login(User.objects.get(pk=1))

    def deep(address: str) -> str:
        return str(_changelist(client.get(LIST + address)).next_page or address)

    def oldest_first(address: str) -> str:
        return str(_changelist(client.get(LIST + address)).other_order[0])

    chosen = list(cases(truth, deep, oldest_first))
    for case in chosen:
        client.get(LIST + case.address)
    rounds = [[_measured(client, case, redis) for case in chosen] for _ in range(ROUNDS)]
    for of_one in zip(*rounds, strict=True):
        fastest = min(of_one, key=attrgetter("server_ms"))
        yield replace(fastest, slowest_ms=min(row.slowest_ms for row in of_one))


def _measured(client: Client, case: Case, redis: Redis) -> Row:
    """Once."""
    loop_ms = _loop_ms()
    redis.config_set("slowlog-log-slower-than", SLOW_US)
    redis.slowlog_reset()
    with _counted() as sent:
        start, used = time.perf_counter(), time.thread_time()
        response = client.get(LIST + case.address)
        took, processor = time.perf_counter() - start, time.thread_time() - used
    if response.status_code != 200:
        raise RuntimeError(f"{case.address} answers {response.status_code}")
    said, exact = _said(response)
    return Row(
        name=case.name,
        server_ms=took * 1000,
        cpu_ms=processor * 1000,
        round_trips=len(sent),
        slowest_ms=max((each["duration"] for each in redis.slowlog_get(1_000)), default=SLOW_US) / 1000,
        said=said,
        exact=exact,
        expected=case.expected,
        loop_ms=loop_ms,
    )


def _loop_ms() -> float:
    """What a fixed piece of work takes now: the cores of shared machines are twice as fast in some minutes."""
    start, total = time.thread_time(), 0
    for number in range(100_000):
        total += number
    return (time.thread_time() - start) * 1000


def _said(response: Any) -> tuple[int | None, bool]:
    if response["Content-Type"] == "application/json":
        document = json.loads(response.content)
        return document["total"], document["total_is_exact"]
    changelist = _changelist(response)
    return (None, True) if changelist is None else (changelist.page.total, changelist.page.exact)


def _changelist(response: Any) -> Any:
    """What the admin calls `cl`; None on other pages."""
    return (response.context_data or {}).get("cl")


class _counted:  # noqa: N801 - reads as a word where it is used
    """The commands that the sync driver sends in one go: one entry a round trip."""

    def __enter__(self) -> list[int]:
        sent: list[int] = []
        send: Any = Connection.send_packed_command

        def counted(self: Connection, command: Any, *args: Any, **kwargs: Any) -> None:
            sent.append(1)
            send(self, command, *args, **kwargs)

        self._patch = mock.patch.object(Connection, "send_packed_command", counted)
        self._patch.start()
        return sent

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def _middle(truth: Truth) -> str:
    moment = truth.now_ms - 25 * 60_000
    return f"?after={moment}-{'8' * 64}"


def _oldest(truth: Truth) -> Filled:
    return min(truth.samples, key=lambda each: each.last_ms)


def _claudes(truth: Truth) -> int:
    return sum(truth.count(client=name) for name in ("claude-code", "claude-ai"))


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| Page | Server, ms | of it CPU | 100,000 additions, ms | Round trips | Slowest command | Says | In truth |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        said = "" if row.said is None else f"{'' if row.exact else 'at least '}{row.said:,}"
        expected = "" if row.expected is None else f"{row.expected:,}"
        slowest = f"{'< ' if row.slowest_ms * 1000 <= SLOW_US else ''}{row.slowest_ms:.1f}"
        lines.append(
            f"| {row.name} | {row.server_ms:.0f} | {row.cpu_ms:.0f} | {row.loop_ms:.1f} | {row.round_trips} "
            f"| {slowest} | {said} | {expected} |"
        )
    return "\n".join(lines)
