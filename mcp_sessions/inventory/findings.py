"""What is wrong at the moment, in words, and how to mend it: for the overview page and for `doctor`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mcp_sessions.conf import endpoint
from mcp_sessions.inventory.figures import Figures
from mcp_sessions.inventory.nodes import SKEW_SECONDS, ServingNode, skew_in_words
from mcp_sessions.records import Kind
from mcp_sessions.store.servers import ServerFacts

#: "error": something fails, or will; "warning": it may; "note": worth knowing.
Level = Literal["error", "warning", "note"]
LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note")

#: Seconds that Redis may take to answer an operator.
SLOW_SECONDS: Final = 0.05
#: The part of a cap, or of Redis' memory, from which on it is nearly reached.
NEARLY: Final = 0.9
#: A tool is failing if so many of its calls have failed, and this part of them.
FAILED_CALLS: Final = 5
FAILED_PART: Final = 0.2
#: Limits that a finding names, those first that refused most.
MOST_LIMITS: Final = 5
#: The oldest release of Redis that has what the scripts call.
OLDEST: Final = (6, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to mend."""

    #: Names the kind of finding, for programs.
    code: str
    level: Level
    what: str
    cure: str


def most_important_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: LEVELS.index(each.level))


def unreachable(cache: str, error: object) -> Finding:
    return Finding(
        code="redis-unreachable",
        level="error",
        what=f"The Redis of the cache {cache!r} does not answer: {error}.",
        cure="Look whether it runs, and whether LOCATION in CACHES is its address. Until it answers, clients get 503, "
        "and no session is lost.",
    )


def of_servers(cache: str, servers: Sequence[ServerFacts]) -> Iterator[Finding]:
    """What is wrong with the Redis servers of a cache."""
    for server in servers:
        name = f"The Redis of the cache {cache!r}{server.name and f' at {server.name}'}"
        yield from _of_memory(name, server)
        yield from _of_persistence(name, server)
        version = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
        if version and version < OLDEST:
            yield Finding(
                code="redis-too-old",
                level="error",
                what=f"{name} has version {server.version}.",
                cure="Use Redis 6.2 or newer, or Valkey.",
            )
        if server.seconds > SLOW_SECONDS:
            yield Finding(
                code="redis-slow",
                level="warning",
                what=f"{name} took {1000 * server.seconds:.0f} ms to answer.",
                cure="Look at its load and at SLOWLOG: every request waits for it.",
            )


def _of_memory(name: str, server: ServerFacts) -> Iterator[Finding]:
    if server.policy and server.policy != "noeviction":
        yield Finding(
            code="redis-policy",
            level="error",
            what=f"{name} has maxmemory-policy {server.policy}: when its memory is full, it drops sessions in use.",
            cure="Set maxmemory-policy to noeviction.",
        )
    if server.maxmemory and server.used_memory > NEARLY * server.maxmemory:
        part = 100 * server.used_memory / server.maxmemory
        yield Finding(
            code="redis-full",
            level="warning",
            what=f"{name} uses {part:.0f} % of its memory.",
            cure="Raise maxmemory, or lower IDLE_TTL, MAX_SESSIONS, STREAM_MAX_BYTES or STATE_MAX_BYTES.",
        )


def _of_persistence(name: str, server: ServerFacts) -> Iterator[Finding]:
    if not server.saves:
        yield Finding(
            code="redis-cannot-save",
            level="error",
            what=f"{name} could not write its data the last time that it tried.",
            cure="Look at its log and its disk. It may refuse writes until it can.",
        )
    if server.appends:
        return
    if server.snapshots:
        yield Finding(
            code="redis-snapshots-only",
            level="warning",
            what=f"{name} makes snapshots only: a crash loses what happened since the last one.",
            cure="Set appendonly to yes: then a crash loses the last second.",
        )
    elif server.snapshots is not None:
        yield Finding(
            code="redis-not-persistent",
            level="error",
            what=f"{name} keeps nothing on disk: when it restarts, every session is over.",
            cure="Set appendonly to yes.",
        )


def of_clocks(ahead_seconds: float) -> Iterator[Finding]:
    """`ahead_seconds`: by how much the clock of Redis is ahead of this machine's."""
    if abs(ahead_seconds) > SKEW_SECONDS:
        yield _skewed("this machine", skew_in_words(ahead_seconds))


def _skewed(whose: str, how: str) -> Finding:
    return Finding(
        code="clock-skew",
        level="warning",
        what=f"The clock of {whose} is {how} that of Redis.",
        cure="Have NTP set both. Tokens expire at the wrong time, and the times that are shown are wrong.",
    )


def of_nodes(alias: str, nodes: Sequence[ServingNode], *, now_ms: int) -> Iterator[Finding]:
    """What is wrong with the processes that serve an endpoint."""
    if not nodes:
        yield Finding(
            code="no-node",
            level="note",
            what=f"No process serves the endpoint {alias!r}.",
            cure="Nothing, if none has had a request since it started. Otherwise look whether they reach Redis.",
        )
    if any(node.is_stranger for node in nodes):
        keys = len({node.key for node in nodes})
        yield Finding(
            code="mixed-keys",
            level="error",
            what=f"The processes that serve the endpoint {alias!r} have {keys} different SECRET_KEYs: sessions that "
            "one of them opened are unknown to others.",
            cure="Give all of them the same SECRET_KEY, and what it was before in SECRET_KEY_FALLBACKS.",
        )
    versions = sorted({node.version for node in nodes if node.version and not node.is_silent})
    if len(versions) > 1:
        yield Finding(
            code="mixed-versions",
            level="note",
            what=f"The processes that serve the endpoint {alias!r} have different versions: {', '.join(versions)}.",
            cure="Nothing during a deploy. Otherwise restart those with the older one.",
        )
    for host, node in {node.host: node for node in nodes if node.is_skewed}.items():
        yield _skewed(f"the machine {host}", node.skew)
    for node in nodes:
        silent = now_ms / 1000 - node.seen.timestamp()
        if node.is_silent:
            yield Finding(
                code="node-silent",
                level="error",
                what=f"The process {node.pid} on {node.host} has been silent for {silent:.0f} s.",
                cure="It hangs, or cannot reach Redis. Look at its log, and restart it.",
            )


def of_caps(alias: str, counts: Mapping[Kind, int]) -> Iterator[Finding]:
    """Which caps are nearly reached. `counts`: how many sessions and handles there are."""
    limits = endpoint(alias).limits
    caps: tuple[tuple[Kind, int | None, str], ...] = (
        ("session", limits.max_sessions, "MAX_SESSIONS"),
        ("handle", endpoint(alias).max_handles, "MAX_HANDLES"),
    )
    for kind, cap, setting in caps:
        number = counts.get(kind, 0)
        if cap and number >= NEARLY * cap:
            yield Finding(
                code="cap-nearly-reached",
                level="error" if number >= cap else "warning",
                what=f"The endpoint {alias!r} has {number:,} of at most {cap:,} {kind}s.",
                cure=f"Raise {setting}, lower the lifetimes, or end those that are no longer used.",
            )


def of_figures(figures: Figures) -> Iterator[Finding]:
    """What was counted says what is wrong, too."""
    if evicted := figures.grown("evicted"):
        yield Finding(
            code="redis-evicts",
            level="error",
            what=f"Redis has evicted {evicted:,} keys in the last {figures.span.name}: sessions or their state.",
            cure="Give it more memory, and set maxmemory-policy to noeviction.",
        )
    if refused := figures.total("sessions_refused"):
        yield Finding(
            code="sessions-refused",
            level="error",
            what=f"{refused:,} new sessions were refused in the last {figures.span.name}, at a cap.",
            cure="Raise MAX_SESSIONS or MAX_SESSIONS_PER_PRINCIPAL, or look whose sessions they are.",
        )
    # Those of the caps on sessions are said above.
    if limited := {name: n for name, n in figures.by_label("limited").items() if "MAX_SESSIONS" not in name}:
        said = [
            f"{name} {number:,} (up to {max(1, round(figures.most_per_minute('limited', name))):,} a minute)"
            for name, number in limited.items()
        ]
        more = f", and {len(said) - MOST_LIMITS} more limits" if len(said) > MOST_LIMITS else ""
        yield Finding(
            code="limits-refuse",
            level="note",
            what=f"Refused by limits in the last {figures.span.name}: {', '.join(said[:MOST_LIMITS])}{more}.",
            cure="Nothing, if that is what the limits are for. Otherwise look who asks that often, or raise them.",
        )
    for tool in figures.tools:
        if tool.failed >= FAILED_CALLS and tool.failed >= FAILED_PART * tool.calls:
            yield Finding(
                code="tool-failing",
                level="warning",
                what=f"The tool {tool.name} fails: {tool.failed:,} of {tool.calls:,} calls in the last "
                f"{figures.span.name}.",
                cure="The log of the processes has the tracebacks.",
            )
