"""What is said of keys that nobody would miss, or that nobody else should have written."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import leftovers

#: Milliseconds, or -1 for ever.
Keys = dict[bytes | str, int]
RECORD = "ab" * 32


class Client:
    """A Redis that has some keys, and remembers how many it was asked for at a time."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.asked: list[tuple[str, Any]] = []
        self.parts: list[int] = []

    def scan_iter(self, *, match: str, count: int) -> Iterator[bytes | str]:
        self.parts.append(count)
        assert match == ":1:mcp:v*"
        return iter(self.keys)

    def pipeline(self, *, transaction: bool) -> "Client":
        assert not transaction
        return self

    def pttl(self, key: Any) -> None:
        self.asked.append(("pttl", key))

    def exists(self, key: Any) -> None:
        self.asked.append(("exists", key))

    def execute(self) -> list[int]:
        asked, self.asked = self.asked, []
        self.parts.append(len(asked))
        known = {
            key if isinstance(key, str) else key.decode("utf-8", "backslashreplace"): ttl
            for key, ttl in self.keys.items()
        }
        return [known[key] if name == "pttl" else int(key in known) for name, key in asked]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Any:
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "unused", "NAMESPACE": "ours"},
        "odd": {"SERVER": "unused", "PATH": "odd", "NAMESPACE": "with:colon"},
        "elsewhere": {"SERVER": "unused", "PATH": "elsewhere", "NAMESPACE": "theirs", "CACHE": "another"},
    }
    monkeypatch.setattr(leftovers, "redis_cache", lambda _: object())
    monkeypatch.setattr(leftovers, "make_key_of", lambda _: lambda key: f":1:{key}")

    def look(keys: Keys, client: Client | None = None) -> list[tuple[str, str, str]]:
        client = client or Client(keys)
        monkeypatch.setattr(leftovers, "sync_client", lambda _: client)
        return [(each.code, each.level, each.what) for each in leftovers.of_keys("default")]

    return look


def beside(part: str, record: str = RECORD, space: str = "ours") -> str:
    return f":1:mcp:v1:{space}:{{{record}}}:{part}"


def test_nothing_is_said_of_what_belongs_to_records_that_are_there(found: Any) -> None:
    keys: Keys = {beside(part): 5 for part in ("session", "state", "features", "stream-1")}
    keys |= {":1:mcp:v1:{ours}:nodes": 5, beside("session", space="with%3Acolon"): 5, ":1:mcp:versions": 5}
    keys |= {":1:mcp:v1:{ours/3}:index": 0}
    assert found(keys) == []
    assert found({}) == []


def test_keys_that_never_expire_and_those_of_records_that_are_gone_are_named(found: Any) -> None:
    gone = [f"{number:064x}" for number in range(4)]
    keys: Keys = {beside(part, record): 5 for record in gone for part in ("state", "features")}
    keys |= {":1:mcp:v1:{ours}:nodes": -1, b":1:mcp:v1:\xff": -1}
    never, orphans = found(keys)
    assert never == (
        "keys-without-ttl",
        "warning",
        "2 keys in the cache 'default' never expire, such as :1:mcp:v1:{ours}:nodes, :1:mcp:v1:\\xff.",
    )
    named = ", ".join(list(keys)[:3])  # type: ignore[arg-type]  # texts
    assert orphans == (
        "orphaned-keys",
        "warning",
        f"8 keys in the cache 'default' belong to records that are gone, such as {named}.",
    )


def test_the_namespaces_of_others_are_counted_by_name(found: Any) -> None:
    keys: Keys = {beside("state", space="theirs"): 5, ":1:mcp:v1:{theirs}:nodes": 5, ":1:mcp:v2:{a}:nodes": 5}
    assert found(keys) == [
        (
            "foreign-namespace",
            "note",
            f"{number} keys in the cache 'default' are of the namespace '{space}', which no endpoint here has.",
        )
        for space, number in (("a", 1), ("theirs", 2))
    ]


def test_keys_are_looked_at_in_parts_and_up_to_a_bound(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: Keys = {f":1:mcp:v1:{{ours}}:{number}": 5 for number in range(7)}
    monkeypatch.setattr(leftovers, "TOGETHER", 3)
    for most, parts, said in ((8, [3, 3, 3, 1], []), (7, [3, 3, 3, 1], [7]), (6, [3, 3, 3], [6])):
        monkeypatch.setattr(leftovers, "MOST_KEYS", most)
        client = Client(keys)
        assert found(keys, client) == [
            ("not-all-keys", "note", f"Only {number} keys of the cache 'default' were looked at.")
            for number in said
        ]
        assert client.parts == parts


def test_a_redis_that_goes_away_is_away(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Client):
        def execute(self) -> list[int]:
            raise RedisConnectionError("x" * 300)

    with pytest.raises(StoreUnavailable, match=r"^ConnectionError: x{183}$"):
        found({}, Gone({beside("state"): 5}))
    monkeypatch.setattr(leftovers, "redis_cache", lambda _: None)
    assert found({":1:mcp:v1:{ours}:nodes": -1}) == []
