"""What is wrong at the moment, in words, and how to mend it: for the overview page and for `doctor`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions.conf import endpoint
from mcp_sessions.inventory.display import milliseconds, number
from mcp_sessions.inventory.nodes import SKEW_SECONDS, ServingNode
from mcp_sessions.records import Kind
from mcp_sessions.store.servers import ServerFacts

#: "error": something fails, or will; "warning": it may; "note": worth knowing.
Level = Literal["error", "warning", "note"]
LEVELS: Final[Mapping[Level, Promise]] = {
    "error": gettext_lazy("Error"),
    "warning": gettext_lazy("Warning"),
    "note": gettext_lazy("Note"),
}

#: Seconds that Redis may take to answer an operator.
SLOW_SECONDS: Final = 0.05
#: The part of a cap, or of Redis' memory, from which on it is nearly reached.
NEARLY: Final = 0.9
#: The oldest release of Redis that has what the scripts call.
OLDEST: Final = (6, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to mend, in the language that was active when it was found."""

    #: Names the kind of finding, for programs.
    code: str
    level: Level
    what: str
    cure: str

    @property
    def level_word(self) -> str:
        return str(LEVELS[self.level])


def most_important_first(findings: Sequence[Finding]) -> list[Finding]:
    order = list(LEVELS)
    return sorted(findings, key=lambda each: order.index(each.level))


def unreachable(cache: str, error: object) -> Finding:
    return Finding(
        code="redis-unreachable",
        level="error",
        what=_("The Redis of the cache %(cache)s does not answer: %(error)s.")
        % {"cache": repr(cache), "error": error},
        cure=_(
            "Look whether it runs, and whether LOCATION in CACHES is its address. Until it answers, clients get 503, "
            "and no session is lost."
        ),
    )


def of_servers(cache: str, servers: Sequence[ServerFacts]) -> Iterator[Finding]:
    """What is wrong with the Redis servers of a cache."""
    for server in servers:
        name = repr(cache)
        if server.name:
            name = _("%(cache)s at %(address)s") % {"cache": name, "address": server.name}
        yield from _of_writes(name, server)
        if server.refusal:
            yield _untold(name, server.refusal)
        else:
            yield from _of_memory(name, server)
            yield from _of_persistence(name, server)
        version = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
        if version and version < OLDEST:
            yield Finding(
                code="redis-too-old",
                level="error",
                what=_("The Redis of the cache %(cache)s has version %(version)s.")
                % {"cache": name, "version": server.version},
                cure=_("Use Redis 6.2 or newer, or Valkey."),
            )
        if server.seconds > SLOW_SECONDS:
            yield Finding(
                code="redis-slow",
                level="warning",
                what=_("The Redis of the cache %(cache)s took %(duration)s to answer.")
                % {"cache": name, "duration": milliseconds(1000 * server.seconds)},
                cure=_("Look at its load and at SLOWLOG: every request waits for it."),
            )


def _of_writes(name: str, server: ServerFacts) -> Iterator[Finding]:
    if server.is_replica:
        yield Finding(
            code="redis-is-replica",
            level="error",
            what=_("The Redis of the cache %(cache)s is a replica: it refuses writes, and clients get 503.")
            % {"cache": name},
            cure=_(
                "Name the primary in LOCATION of CACHES, or its Sentinels, which tell who is the primary."
            ),
        )
    if server.missing_replicas:
        text = ngettext(
            "The Redis of the cache %(cache)s refuses writes, because %(number)s replica is missing of those that "
            "min-replicas-to-write asks for.",
            "The Redis of the cache %(cache)s refuses writes, because %(number)s replicas are missing of those that "
            "min-replicas-to-write asks for.",
            server.missing_replicas,
        )
        yield Finding(
            code="redis-lacks-replicas",
            level="error",
            what=text % {"cache": name, "number": number(server.missing_replicas)},
            cure=_("Look whether its replicas run and keep up. Until they do, clients get 503."),
        )


def _untold(name: str, refusal: str) -> Finding:
    return Finding(
        code="redis-untold",
        level="note",
        what=_("The Redis of the cache %(cache)s does not tell about its memory and its disk: %(error)s")
        % {"cache": name, "error": refusal},
        cure=_("Allow its user the command INFO, and CONFIG GET if you like. Nothing else depends on it."),
    )


def _of_memory(name: str, server: ServerFacts) -> Iterator[Finding]:
    if server.policy and server.policy != "noeviction":
        yield Finding(
            code="redis-policy",
            level="error",
            what=_(
                "The Redis of the cache %(cache)s has maxmemory-policy %(policy)s: when its memory is full, it drops "
                "sessions in use."
            )
            % {"cache": name, "policy": server.policy},
            cure=_("Set maxmemory-policy to noeviction."),
        )
    if server.maxmemory and server.used_memory > NEARLY * server.maxmemory:
        part = number(100 * server.used_memory / server.maxmemory)
        yield Finding(
            code="redis-full",
            level="warning",
            what=_("The Redis of the cache %(cache)s uses %(part)s %% of its memory.")
            % {"cache": name, "part": part},
            cure=_("Raise maxmemory, or lower IDLE_TTL, MAX_SESSIONS, STREAM_MAX_BYTES or STATE_MAX_BYTES."),
        )


def _of_persistence(name: str, server: ServerFacts) -> Iterator[Finding]:
    named = {"cache": name}
    if not server.saves:
        yield Finding(
            code="redis-cannot-save",
            level="error",
            what=_("The Redis of the cache %(cache)s could not write its data the last time that it tried.")
            % named,
            cure=_("Look at its log and its disk. It may refuse writes until it can."),
        )
    if server.appends:
        return
    if server.snapshots:
        yield Finding(
            code="redis-snapshots-only",
            level="warning",
            what=_(
                "The Redis of the cache %(cache)s makes snapshots only: a crash loses what happened since the last "
                "one."
            )
            % named,
            cure=_("Set appendonly to yes: then a crash loses the last second."),
        )
    elif server.snapshots is not None:
        yield Finding(
            code="redis-not-persistent",
            level="error",
            what=_(
                "The Redis of the cache %(cache)s keeps nothing on disk: when it restarts, every session is over."
            )
            % named,
            cure=_("Set appendonly to yes."),
        )


def of_clocks(ahead_seconds: float) -> Iterator[Finding]:
    """`ahead_seconds`: by how much the clock of Redis is ahead of this machine's."""
    if abs(ahead_seconds) > SKEW_SECONDS:
        yield _skewed(ahead_seconds)


def _skewed(ahead_seconds: float, host: str = "") -> Finding:
    """`host`: another machine than this one."""
    if host:
        differs = (
            _("The clock of the machine %(host)s is %(seconds)s s behind that of Redis.")
            if ahead_seconds > 0
            else _("The clock of the machine %(host)s is %(seconds)s s ahead of that of Redis.")
        )
    else:
        differs = (
            _("The clock of this machine is %(seconds)s s behind that of Redis.")
            if ahead_seconds > 0
            else _("The clock of this machine is %(seconds)s s ahead of that of Redis.")
        )
    return Finding(
        code="clock-skew",
        level="warning",
        what=differs % {"host": host, "seconds": number(abs(ahead_seconds))},
        cure=_("Have NTP set both. Tokens expire at the wrong time, and the times that are shown are wrong."),
    )


def of_nodes(alias: str, nodes: Sequence[ServingNode], *, now_ms: int) -> Iterator[Finding]:
    """What is wrong with the processes that serve an endpoint."""
    named = {"endpoint": repr(alias)}
    if not nodes:
        yield Finding(
            code="no-node",
            level="note",
            what=_("No process serves the endpoint %(endpoint)s.") % named,
            cure=_(
                "Nothing, if none has had a request since it started. Otherwise look whether they reach Redis."
            ),
        )
    if any(node.is_stranger for node in nodes):
        keys = len({node.key for node in nodes})
        yield Finding(
            code="mixed-keys",
            level="error",
            what=_(
                "The processes that serve the endpoint %(endpoint)s have %(keys)s different SECRET_KEYs: sessions that "
                "one of them opened are unknown to others."
            )
            % {**named, "keys": keys},
            cure=_("Give all of them the same SECRET_KEY, and what it was before in SECRET_KEY_FALLBACKS."),
        )
    versions = sorted({node.version for node in nodes if node.version and not node.is_silent})
    if len(versions) > 1:
        yield Finding(
            code="mixed-versions",
            level="note",
            what=_(
                "The processes that serve the endpoint %(endpoint)s have different versions: %(versions)s."
            )
            % {**named, "versions": ", ".join(versions)},
            cure=_("Nothing during a deploy. Otherwise restart those with the older one."),
        )
    for host, node in {node.host: node for node in nodes if node.is_skewed}.items():
        yield _skewed(node.ahead_ms / 1000, host)
    for node in nodes:
        silent = now_ms / 1000 - node.seen.timestamp()
        if node.is_silent:
            yield Finding(
                code="node-silent",
                level="error",
                what=_("The process %(process)s on %(host)s has been silent for %(seconds)s s.")
                % {"process": node.pid, "host": node.host, "seconds": number(silent)},
                cure=_("It hangs, or cannot reach Redis. Look at its log, and restart it."),
            )


def of_caps(alias: str, counts: Mapping[Kind, int]) -> Iterator[Finding]:
    """Which caps are nearly reached. `counts`: how many sessions and handles there are."""
    limits = endpoint(alias).limits
    caps: tuple[tuple[Kind, int | None, str, str], ...] = (
        (
            "session",
            limits.max_sessions,
            "MAX_SESSIONS",
            _("The endpoint %(endpoint)s has %(number)s of at most %(cap)s sessions."),
        ),
        (
            "handle",
            endpoint(alias).max_handles,
            "MAX_HANDLES",
            _("The endpoint %(endpoint)s has %(number)s of at most %(cap)s handles."),
        ),
    )
    for kind, cap, setting, words in caps:
        taken = counts.get(kind, 0)
        if cap and taken >= NEARLY * cap:
            yield Finding(
                code="cap-nearly-reached",
                level="error" if taken >= cap else "warning",
                what=words % {"endpoint": repr(alias), "number": number(taken), "cap": number(cap)},
                cure=_("Raise %(setting)s, lower the lifetimes, or end those that are no longer used.")
                % {"setting": setting},
            )
