"""The names of every key in Redis. Pure.

| key | type | holds | lives |
| --- | --- | --- | --- |
| `mcp:v1:<namespace>:{<fingerprint>}:session` | string | times, principal, handshake… | MAX_AGE and 15 s at most |
| `mcp:v1:<namespace>:{<fingerprint>}:features` | hash | log level, enabled tools; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:state` | hash | state names and JSON values; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:recent` | hash | what its last requests did | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:ended` | string | the tombstone: why and by which call it ended | 10 minutes |
| `mcp:v1:<namespace>:{<fingerprint>}:ended-record` | string | the record of a session that ended | 1 minute |
| `mcp:v1:<namespace>:{<fingerprint>}:stream:<name>` | stream | the log of one stream | minutes after a sign of life |
| `mcp:v1:<namespace>:{<fingerprint>}:stream-info:<name>` | hash | its claim and positions | as above |
| `mcp:v1:<namespace>:{<fingerprint>}:finished` | sorted set | streams that ended, at most 256 | STREAM_TTL |
| `mcp:v1:<namespace>:{<fingerprint>}:published` | sorted set | names of publications, at most 1,000 | 1 minute |
| `mcp:v1:<namespace>:{<fingerprint>}:request:<id>` | hash | who waits for a reply, and what came | STREAM_TTL |
| `mcp:v1:<namespace>:{<fingerprint>}:resources` | hash | the resources subscribed to: digests, URIs | MAX_AGE at most |
| `mcp:v1:{<shard>}:index:activity` | sorted set | every session by last activity | IDLE_TTL after the last update |
| `mcp:v1:{<shard>}:index:ends` | sorted set | every session by when it ends | as above |
| `mcp:v1:{<shard>}:index:fingerprints` | sorted set | every session in the order of its fingerprint | as above |
| `mcp:v1:{<shard>}:index:gone` | sorted set | sessions that ended a moment ago, by when | 30 s |
| `mcp:v1:{<shard>}:index:client:<name>` | sorted set | the sessions of one client, by last activity | as above |
| `mcp:v1:{<shard>}:index:protocol:<version>` | sorted set | the sessions of one protocol version | as above |
| `mcp:v1:{<shard>}:index:principal:<digest>` | sorted set | the sessions of one principal | as above |
| `mcp:v1:{<shard>}:index:<kind>:…` | sorted set | the same for records that are no sessions | as their records |
| `mcp:v1:{<shard>}:index:<kind>:label:<label>` | sorted set | those with one label | as their records |
| `mcp:v1:{<shard>}:index:<kind>:owner:<digest>:<label>` | sorted set | those of one principal | as their records |
| `mcp:v1:{<shard>}:clients` | sorted set | client names by their last `initialize`, at most 100 | MAX_AGE |
| `mcp:v1:{<shard>}:sweeper` | string | the node that drops what is over | 3 s |
| `mcp:v1:{<shard>}:rate:<digest>` | string | when a bucket of RATE_LIMITS is full again | until then |
| `mcp:v1:{<namespace>}:nodes` | sorted set | the nodes by last heartbeat | until nodes are forgotten |
| `mcp:v1:{<namespace>}:nodes:about` | hash | what each of them tells about itself | as above |
| `mcp:v1:{<namespace>}:inbox:<node>` | stream | notifications for one node, at most about 10,000 | as above |
| `mcp:v1:{<namespace>}:reports` | sorted set | the nodes by their last report | 10 minutes after the last |
| `mcp:v1:{<namespace>}:reports:told` | hash | what runs in each of them, and how it is | as above |
| `mcp:v1:{<namespace>}:broadcasts` | stream | what every node must hear, about 10,000 | 10 minutes after the last |
| `mcp:v1:{<namespace>}:endings` | hash | sessions that an operator is ending | until done, 1 hour at most |
| `mcp:v1:{<namespace>}:tombstones:<n>` | set | sessions that ended, if ids can revive them | MAX_AGE of the last |
| `mcp:v1:{<namespace>}:min-created` | string | before when no session counts | half a year or more after a heartbeat |
| `mcp:v1:{<namespace>}:counts:<span>:<step>` | hash | what was counted in one step of a span | a span longer |
| `mcp:v1:{<namespace>}:tool-counts:<span>:<step>` | hash | the calls of each tool, in longer steps | a span longer |
| `mcp:v1:{<namespace>}:totals` | hash | all that was counted | 8 days after the last count |
| `mcp:v1:{<namespace>}:tool-totals` | hash | all calls of each tool | as above |
| `mcp:v1:{<namespace>}:tool-names` | sorted set | tools by their last call, at most 200 | as above |
| `mcp:v1:{<namespace>}:counted-by:<node>` | string | the last counts that a node wrote | 10 minutes |

Each name goes through the cache's `make_key`, so that KEY_PREFIX and VERSION apply. The braces are Redis Cluster
hash tags: all of a session is in one slot, all of a shard of the indexes in another, so that a script can be atomic.
Without shards, which is INDEX_SHARDS = 1, `<shard>` is the namespace; of sixteen shards, it is `<namespace>/0of16` to
`<namespace>/15of16`. A session is in the shard of its fingerprint, and in the index of its principal, which has one
shard, too, unless that is anonymous. Namespaces, client names and versions are percent-encoded; only the first 100
characters of a client name count. The app itself chooses the names of streams, requests and nodes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

from mcp_sessions.records import Kind

MakeKey = Callable[[str], str]

GONE: Final = "index:gone"
CLIENTS: Final = "clients"
SWEEPER: Final = "sweeper"

#: How the home of a call on a shard of the indexes begins.
SHARD: Final = "@"

CLIENT_NAME_LENGTH: Final = 100
_LONGEST_PART: Final = 160


class Keys:
    """The keys of one namespace in one cache."""

    def __init__(self, namespace: str, make_key: MakeKey, *, shards: int = 1) -> None:
        space = quote(namespace, safe="")
        self._make_key = make_key
        self._of_namespace = f"mcp:v1:{{{space}}}:"
        self._of_shards = (
            [self._of_namespace]
            if shards == 1
            else [f"mcp:v1:{{{space}/{number}of{shards}}}:" for number in range(shards)]
        )
        self._of_session = f"mcp:v1:{space}:{{"
        # Most key functions put something before the name and something behind it: then the keys of a session are
        # concatenations, which matters on the path of every request. Any other key function is called each time.
        self._before, self._behind, self._concatenates = self._probe()

    def resolve(self, home: str, parts: Sequence[str]) -> list[str]:
        """The full keys of a session, of a shard (see `home_of`), or of the namespace if `home` is ""."""
        if home[:1] == SHARD:
            start = self._of_shards[shard_of(home[1:], len(self._of_shards))]
        elif home and self._concatenates:
            start, behind = self._before + home + "}:", self._behind
            return [start + part + behind for part in parts]
        else:
            start = f"{self._of_session}{home}}}:" if home else self._of_namespace
        return [str(self._make_key(start + part)) for part in parts]

    def _probe(self) -> tuple[str, str, bool]:
        """What the key function puts before and behind a name, and whether that is all that it does."""
        digests = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two", b"three")]
        names = [
            self._of_session + digest + "}:" + digest[:length] for digest in digests for length in (7, 40)
        ]
        before, _, behind = str(self._make_key(names[0])).partition(names[0])
        concatenates = all(str(self._make_key(name)) == before + name + behind for name in names)
        return before + self._of_session, behind, concatenates


def shard_of(digits: str, shards: int) -> int:
    """The shard of a fingerprint, or of anything else in hexadecimal, by the first four digits."""
    return int(digits[:4], 16) * shards >> 16


def home_of(digits: str) -> str:
    """The home of a call on the indexes of the shard of a fingerprint, however many shards there are."""
    return SHARD + digits


def home_of_principal(principal: str) -> str:
    """The home of a call on the indexes of one principal."""
    return SHARD + _digest(principal)


def homes(shards: int) -> list[str]:
    """The home of a call on each shard."""
    return [SHARD + f"{-(-(number << 16) // shards):04x}" for number in range(shards)]


def client_label(name: str) -> str:
    """The client name as it is indexed and listed."""
    return name[:CLIENT_NAME_LENGTH]


def activity_index(kind: Kind = "session") -> str:
    """The index of every record of a kind."""
    return _index(kind, "activity")


def ends_index(kind: Kind = "session") -> str:
    """Every record of a kind by when it ends."""
    return _index(kind, "ends")


def fingerprints_index(kind: Kind = "session") -> str:
    """Every record of a kind in the order of its fingerprint, for who knows how that begins."""
    return _index(kind, "fingerprints")


def client_index(name: str, kind: Kind = "session") -> str:
    """The index of one client, by its label."""
    return _index(kind, "client", _quoted(client_label(name)))


def protocol_index(version: str, kind: Kind = "session") -> str:
    return _index(kind, "protocol", _quoted(version))


def principal_index(principal: str, kind: Kind = "session") -> str:
    return _index(kind, "principal", _digest(principal))


def label_index(label: str, kind: Kind) -> str:
    """The index of the records of a kind that have this label."""
    return _index(kind, "label", _quoted(label))


def owner_index(principal: str, label: str, kind: Kind) -> str:
    """The index of what one principal has of one label."""
    return _index(kind, "owner", _digest(principal), _quoted(label))


def _index(kind: Kind, *parts: str) -> str:
    """The name of an index. Those of sessions are older than other kinds, and do not name theirs."""
    return ":".join(["index", *parts] if kind == "session" else ["index", kind, *parts])


def _digest(principal: str) -> str:
    return hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _quoted(text: str) -> str:
    """Text from a client as part of a key: without braces, and bounded."""
    quoted = quote(text, safe=" ", errors="backslashreplace")
    return quoted if len(quoted) <= _LONGEST_PART else hashlib.sha256(quoted.encode()).hexdigest()
