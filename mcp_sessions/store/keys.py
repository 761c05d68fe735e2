"""The names of every key in Redis. Pure.

| key | type | holds | lives |
| --- | --- | --- | --- |
| `mcp:v1:<namespace>:{<fingerprint>}:session` | string | times, counters, owner, handshake | until it expires |
| `mcp:v1:<namespace>:{<fingerprint>}:features` | hash | log level, enabled tools; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:state` | hash | state names and JSON values; only if any | with the session |
| `mcp:v1:<namespace>:{<fingerprint>}:ended` | string | the tombstone: why the session ended | 10 minutes |
| `mcp:v1:<namespace>:{<fingerprint>}:stream:<name>` | stream | the log of one stream | minutes after a sign of life |
| `mcp:v1:<namespace>:{<fingerprint>}:stream-info:<name>` | hash | its claim and positions | as above, or MAX_AGE |
| `mcp:v1:<namespace>:{<fingerprint>}:finished` | sorted set | streams that ended, at most 256 | until MAX_AGE |
| `mcp:v1:<namespace>:{<fingerprint>}:published` | sorted set | names of publications, at most 1,000 | 1 minute |
| `mcp:v1:<namespace>:{<fingerprint>}:question:<id>` | hash | who waits for a reply, and what came | REQUEST_TIMEOUT |
| `mcp:v1:<namespace>:{<fingerprint>}:subscriptions` | set | digests of the resources subscribed to | until MAX_AGE |
| `mcp:v1:{<namespace>}:index:activity` | sorted set | every session by last activity | IDLE_TTL after the last update |
| `mcp:v1:{<namespace>}:index:new` | sorted set | sessions that never became active, by when they end | as above |
| `mcp:v1:{<namespace>}:index:client:<name>` | sorted set | the sessions of one client, by last activity | as above |
| `mcp:v1:{<namespace>}:index:protocol:<version>` | sorted set | the sessions of one protocol version | as above |
| `mcp:v1:{<namespace>}:index:principal:<digest>` | sorted set | the sessions of one principal | as above |
| `mcp:v1:{<namespace>}:clients` | sorted set | client names by when last seen, at most 100 | MAX_AGE after an update |
| `mcp:v1:{<namespace>}:nodes` | sorted set | the serving processes by last heartbeat | until nodes are forgotten |
| `mcp:v1:{<namespace>}:nodes:about` | hash | what each of them tells about itself | as above |
| `mcp:v1:{<namespace>}:inbox:<node>` | stream | doorbells for one process, at most about 10,000 | as above |
| `mcp:v1:{<namespace>}:notices` | stream | what all processes must hear, about 10,000 | 10 minutes after the last |

Each name goes through the cache's `make_key`, so that KEY_PREFIX and VERSION hold. The braces are Redis Cluster
hash tags: all of a session in one slot, all of a namespace's indexes in another, so that a script can be atomic.
Namespaces, client names and versions are percent-encoded; a client name counts to its 100th character. Streams,
questions and nodes have names of our own.
"""

import hashlib
from collections.abc import Callable
from urllib.parse import quote

from mcp_sessions.store.session import Handshake
from mcp_sessions.store.streaming import STANDALONE

MakeKey = Callable[[str], str]

CLIENT_NAME_LENGTH = 100
_LONGEST_PART = 160


class Keys:
    """The keys of one namespace in one cache."""

    def __init__(self, namespace: str, make_key: MakeKey) -> None:
        space = quote(namespace, safe="")
        self._make_key = make_key
        self._index_prefix = f"mcp:v1:{{{space}}}:"
        self._session_prefix = session_prefix = f"mcp:v1:{space}:"
        self.session = _per_session(make_key, session_prefix, "session")
        self.features = _per_session(make_key, session_prefix, "features")
        self.state = _per_session(make_key, session_prefix, "state")
        self.ended = _per_session(make_key, session_prefix, "ended")
        self.published = _per_session(make_key, session_prefix, "published")
        self.finished = _per_session(make_key, session_prefix, "finished")
        self.subscriptions = _per_session(make_key, session_prefix, "subscriptions")
        self.activity = self._of_namespace("index:activity")
        self.new = self._of_namespace("index:new")
        self.clients = self._of_namespace("clients")
        self.nodes = self._of_namespace("nodes")
        self.nodes_about = self._of_namespace("nodes:about")
        self.notices = self._of_namespace("notices")

    def stream(self, fingerprint: str, name: str) -> str:
        return self._of_session(fingerprint, "stream:" + name)

    def stream_info(self, fingerprint: str, name: str) -> str:
        return self._of_session(fingerprint, "stream-info:" + name)

    def question(self, fingerprint: str, name: str) -> str:
        return self._of_session(fingerprint, "question:" + name)

    def lasting(self, fingerprint: str) -> tuple[str, ...]:
        """What streams leave with a session until it ends."""
        return (
            self.stream(fingerprint, STANDALONE),
            self.stream_info(fingerprint, STANDALONE),
            self.published(fingerprint),
            self.subscriptions(fingerprint),
        )

    def inbox(self, node: str) -> str:
        return self._of_namespace("inbox:" + node)

    def client(self, name: str) -> str:
        """The index of one client, by its label."""
        return self._of_namespace("index:client:" + _part(client_label(name)))

    def protocol(self, version: str) -> str:
        return self._of_namespace("index:protocol:" + _part(version))

    def principal(self, principal: str) -> str:
        digest = hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()
        return self._of_namespace("index:principal:" + digest[:32])

    def indexes(self, handshake: Handshake, principal: str) -> tuple[str, str, str, str]:
        """The indexes by last activity that hold a session: activity, principal, client, protocol."""
        return (
            self.activity,
            self.principal(principal),
            self.client(handshake.client_name),
            self.protocol(handshake.protocol_version),
        )

    def _of_session(self, fingerprint: str, part: str) -> str:
        return str(self._make_key(f"{self._session_prefix}{{{fingerprint}}}:{part}"))

    def _of_namespace(self, part: str) -> str:
        return str(self._make_key(self._index_prefix + part))


def client_label(name: str) -> str:
    """The client name as it is indexed and listed."""
    return name[:CLIENT_NAME_LENGTH]


def _part(text: str) -> str:
    """Text from a client as part of a key: without braces, and bounded."""
    quoted = quote(text, safe=" ", errors="backslashreplace")
    return quoted if len(quoted) <= _LONGEST_PART else hashlib.sha256(quoted.encode()).hexdigest()


def _per_session(make_key: MakeKey, prefix: str, part: str) -> Callable[[str], str]:
    """A function from fingerprint to key.

    Most key functions put something before the name and something behind it: then the key is a concatenation, which
    matters on the path of every request. Any other key function is called each time.
    """

    def made(fingerprint: str) -> str:
        return str(make_key(f"{prefix}{{{fingerprint}}}:{part}"))

    probes = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two", b"three")]
    before, _, behind = made(probes[0]).partition(probes[0])
    if any(made(probe) != before + probe + behind for probe in probes):
        return made
    return lambda fingerprint: before + fingerprint + behind
