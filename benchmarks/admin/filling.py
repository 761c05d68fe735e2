"""Fills a Redis and a database with sessions as clients leave them, and remembers what the lists ought to say.

The records and index entries are written as the store's scripts write them, but without the scripts: a million sessions
take a minute.
"""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import connection
from hiredis import pack_command
from redis import Redis

from mcp_sessions import conf
from mcp_sessions.records import ANONYMOUS, Handshake
from mcp_sessions.store import keys
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.clients import make_key_of
from mcp_sessions.store.keys import Keys

#: Name, version, share, and what the client can do. The last one is rare.
CLIENTS: Final = (
    ("claude-code", "2.1.14", 300),
    ("cursor-vscode", "1.0.0", 250),
    ("claude-ai", "0.1.0", 200),
    ("Visual Studio Code", "1.106.0", 120),
    ("mcp-inspector", "0.17.2", 60),
    ("goose", "1.14.0", 40),
    ("librechat-mcp-client", "0.8.0", 29),
    ("nightly-report", "3.2", 1),
)
PROTOCOLS: Final = (("2025-11-25", 60), ("2025-06-18", 35), ("2025-03-26", 5))
#: Sessions for each user, on average; and the share of anonymous ones.
OF_EACH_USER: Final = 3.5
ANONYMOUS_SHARE: Final = 0.1
#: Of each endpoint.
SHARES: Final = (("shop", 0.7), ("stock", 0.3))

MINUTE: Final = 60_000
#: Sessions were last used within so many milliseconds.
WITHIN: Final = 50 * MINUTE
#: For how long the keys stay, so that a benchmark sees what it filled in.
STAYS: Final = 3 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """One session."""

    fingerprint: str
    endpoint: str
    client: str
    protocol: str
    principal: str
    last_ms: int


@dataclass(slots=True, kw_only=True)
class Truth:
    """What is in the stores."""

    now_ms: int
    sessions: int
    #: Sessions by any combination of endpoint, client and protocol.
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    principals: Counter[str] = field(default_factory=Counter)
    #: Last used within a quarter of the idle TTL.
    lately: int = 0
    #: One in ten thousand or more.
    samples: list[Filled] = field(default_factory=list)
    redis_bytes: float = 0.0

    def count(self, *, endpoint: str = "", client: str = "", protocol: str = "") -> int:
        """How many sessions there are of these; any if one is left empty."""
        wanted = (endpoint, client, protocol)
        return sum(
            number
            for names, number in self.counts.items()
            if all(each in ("", name) for each, name in zip(wanted, names, strict=True))
        )


def user_name(number: int) -> str:
    """The name of a user, as people have them."""
    return f"{('ada', 'bob', 'chen', 'dora', 'emil')[number % 5]}.{number // 5}"


def make_users(count: int) -> None:
    """So many users, with the primary keys from 1 on; the first one is an operator."""
    User.objects.bulk_create(
        (User(pk=number + 1, username=user_name(number)) for number in range(count)), 2_000
    )
    User.objects.filter(pk=1).update(is_staff=True, is_superuser=True)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def fill(redis: Redis, count: int) -> Truth:
    """Put so many sessions into an empty Redis."""
    now = int(time.time() * 1000)
    truth, chance = Truth(now_ms=now, sessions=count), random.Random(count)  # noqa: S311 - no secret
    spaces = {alias: _keys_of(alias) for alias, _ in SHARES}
    handshakes = {
        (name, protocol): _handshake(name, version, protocol)
        for name, version, _ in CLIENTS
        for protocol, _ in PROTOCOLS
    }
    before = redis.info("memory")["used_memory"]
    with _Pipe(redis) as pipe:
        for session in _sessions(count, now, chance):
            truth.counts[session.endpoint, session.client, session.protocol] += 1
            truth.principals[session.principal] += 1
            truth.lately += session.last_ms >= now - 15 * MINUTE
            if len(truth.samples) < 200 or chance.random() < 0.0001:
                truth.samples.append(session)
            _store(pipe, spaces[session.endpoint], session, handshakes[session.client, session.protocol], now)
        for alias, space in spaces.items():
            _name_clients(pipe, alias, space, now)
    for key in redis.scan_iter("*:index:*", count=10_000):
        redis.pexpire(key, STAYS)
    truth.redis_bytes = (redis.info("memory")["used_memory"] - before) / count
    return truth


def _sessions(count: int, now: int, chance: random.Random) -> Iterator[Filled]:
    users = max(1, round(count / OF_EACH_USER))
    for number in range(count):
        anonymous = chance.random() < ANONYMOUS_SHARE
        yield Filled(
            fingerprint=hashlib.sha256(b"%d of %d" % (number, count)).hexdigest(),
            endpoint=_one_of(SHARES, chance),
            client=_one_of([(name, share) for name, _, share in CLIENTS], chance),
            protocol=_one_of(PROTOCOLS, chance),
            principal=ANONYMOUS if anonymous else f"user:{chance.randrange(users) + 1}",
            last_ms=now - chance.randrange(WITHIN),
        )


def _one_of(shares: Sequence[tuple[str, float]], chance: random.Random) -> str:
    [name] = chance.choices([name for name, _ in shares], [share for _, share in shares])
    return name


def _keys_of(alias: str) -> Keys:
    entry = conf.endpoint(alias)
    return Keys(entry.namespace, make_key_of(entry.cache), shards=entry.limits.shards)


def _handshake(name: str, version: str, protocol: str) -> Handshake:
    return Handshake(
        protocol_version=protocol,
        client_info={"name": name, "title": name.title(), "version": version},
        capabilities={"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}},
    )


def _store(pipe: "_Pipe", space: Keys, session: Filled, handshake: Handshake, now: int) -> None:
    """As `lua/_record.lua` and `lua/update.lua` write it."""
    limits = conf.endpoint(session.endpoint).limits
    created, last = session.last_ms - 5 * MINUTE, session.last_ms
    ends = last + limits.idle_ms
    [key] = space.resolve(session.fingerprint, ["session"])
    numbers = (created, limits.max_age_ms, last - created, ends - created, last - created, 7)
    words = " ".join(map(str, numbers))
    text = f"1 {words} -ai\ntools/call:remember\n{session.principal}\n{handshake.text}"
    pipe.send("SET", key, text, "PX", ends - now + STAYS)
    member = bytes.fromhex(session.fingerprint)
    for place in indexes.places(
        session.fingerprint, handshake, session.principal, together=limits.shards == 1
    ):
        for name in space.resolve(place.home, place.indexes):
            pipe.send("ZADD", name, last, member)
        for name, score in zip(space.resolve(place.home, place.beside), (ends, 0), strict=False):
            pipe.send("ZADD", name, score, member)


def _name_clients(pipe: "_Pipe", alias: str, space: Keys, now: int) -> None:
    for home in keys.homes(conf.endpoint(alias).limits.shards):
        for name, _, _ in CLIENTS:
            pipe.send("ZADD", *space.resolve(home, [keys.CLIENTS]), now, name)


class _Pipe:
    """Commands without waiting for their replies, which are errors or nothing."""

    def __init__(self, redis: Redis) -> None:
        self._connection: Any = redis.connection_pool.get_connection()
        self._sent = 0
        self._buffer: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._done = threading.Event()

    def __enter__(self) -> "_Pipe":
        self._socket = self._connection._sock  # noqa: SLF001 - redis-py would wait for each reply
        self._socket.settimeout(None)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._buffer.append(pack_command(tuple[Any, ...](("ECHO", "all-is-there"))))
        self._socket.sendall(b"".join(self._buffer))
        self._done.wait()
        self._connection.disconnect()

    def send(self, *words: Any) -> None:
        self._buffer.append(pack_command(words))
        if len(self._buffer) >= 2_000:
            self._socket.sendall(b"".join(self._buffer))
            self._buffer.clear()

    def _read(self) -> None:
        end = b""
        while b"all-is-there" not in end:
            end = end[-50:] + self._socket.recv(1 << 20)
        self._done.set()
