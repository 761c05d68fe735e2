"""Nodes, and what they tell each other.

A notification is a hint: one that is lost costs latency, never a message. A broadcast is kept until each node has read
it. Every call but `broadcast` may be made again with the same arguments: nothing happens twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.store.call import Call, Operation, Script

#: Notifications that an inbox holds, about.
MOST_NOTIFICATIONS: Final = 10_000
#: For how long the last report of a node is kept that hangs or was killed.
REPORTS_MS: Final = 600_000
#: The keys of reports.
_REPORTS: Final = ("reports", "reports:told")
#: Broadcasts that are kept, about; for how long after the last one; and how many one call reads.
MOST_BROADCASTS: Final = 10_000
BROADCASTS_MS: Final = 600_000
BROADCASTS_READ: Final = 1_000

BEAT: Final = Script("node_beat", "_record", repeatable=True)
LEAVE: Final = Script("node_leave", repeatable=True)
LIST: Final = Script("node_list", repeatable=True)
NOTIFY: Final = Script("node_notify", repeatable=True, pipe="messages")
BROADCAST: Final = Script("broadcast", repeatable=True)
BROADCASTS: Final = Script("broadcasts", "_record", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """What the store knows about one node."""

    id: str
    #: Host name, process id and whatever else the process tells, as JSON text.
    about: str
    #: Milliseconds since the epoch of its last heartbeat.
    seen_ms: int

    def told(self) -> dict[str, Any]:
        """What it tells; empty if that cannot be read."""
        try:
            told = json.loads(self.about)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def keys(self) -> list[str]:
        """What tells its keys for session ids apart, first that of the one to sign with; empty if it does not say."""
        keys = self.told().get("keys")
        return [str(key) for key in keys] if isinstance(keys, list) else []

    def shares_keys(self, digests: Sequence[str]) -> bool:
        """Whether it knows the sessions that are opened with these keys, and these those that it opens.

        The first digest is that of the key to sign with. Nothing is known of a node that does not tell its keys.
        """
        theirs = self.keys
        return not theirs or (theirs[0] in digests and digests[0] in theirs)


def inbox(node: str) -> str:
    """The part of the key of a node's notifications."""
    return "inbox:" + node


def beat(node: str, *, about: str, forget_after_ms: int) -> Call[int | None]:
    """Heartbeat of a node. Those silent for longer than `forget_after_ms` are forgotten, with their inboxes.

    Milliseconds since its last heartbeat, as far as the store knows; None if it knows of none.
    """
    arguments = (node, about, forget_after_ms)
    return Call(BEAT, "", ("nodes", "nodes:about", inbox(node)), arguments, lambda _, reply: reply)


def report(node: str, *, told: str) -> Call[None]:
    """What runs in a node, and how it is. The report of one that is silent is kept for REPORTS_MS."""
    # The script of heartbeats: a report is one that is remembered for longer.
    return Call(BEAT, "", (*_REPORTS, _REPORTS[1]), (node, told, REPORTS_MS), _nothing)


def reports() -> Call[list[NodeEntry]]:
    """The last report of each node that reported in the last REPORTS_MS and has not left since, by id."""
    return Call(LIST, "", _REPORTS, (), _nodes)


def leave(node: str) -> Call[None]:
    """The node stops: forget it at once, and its report."""
    return Call(LEAVE, "", ("nodes", "nodes:about", inbox(node), *_REPORTS), (node,), _nothing)


def list_nodes() -> Call[list[NodeEntry]]:
    """The nodes that are not forgotten, by id."""
    return Call(LIST, "", ("nodes", "nodes:about"), (), _nodes)


def notify(messages: Mapping[str, Sequence[bytes]]) -> Operation[None]:
    """Put notifications into the inboxes of nodes; those of unknown nodes are dropped. Inboxes are bounded."""
    yield [
        Call(NOTIFY, "", ("nodes", inbox(node)), (node, MOST_NOTIFICATIONS, *told), _nothing)
        for node, told in messages.items()
        if told
    ]


def notify_all(message: bytes) -> Operation[None]:
    """Put a notification into the inbox of every node."""
    [nodes] = yield [list_nodes()]
    yield from notify({node.id: [message] for node in nodes})


def broadcast(message: bytes) -> Call[None]:
    """Leave a message for every node. A repeated call leaves it twice: readers must tolerate that.

    The newest ten thousand or so are kept, for ten minutes after the last one.
    """
    return Call(BROADCAST, "", ("broadcasts",), (MOST_BROADCASTS, BROADCASTS_MS, message), _nothing)


def broadcasts(*, after: str, age_ms: int = 0) -> Call[tuple[str, Sequence[bytes]]]:
    """The broadcasts after a place, oldest first, and the place after them; one call returns a thousand at most.

    `after=""`: those of the last `age_ms` milliseconds. A server that lost data does not repeat what it still has.
    """
    arguments = (after, age_ms, BROADCASTS_READ)
    return Call(BROADCASTS, "", ("broadcasts",), arguments, lambda _, reply: (reply[0].decode(), reply[1]))


def _nothing(_: str, __: Any) -> None:
    return None


def _nodes(_: str, reply: Any) -> list[NodeEntry]:
    seen, told = reply
    about = dict(zip(told[::2], told[1::2], strict=True))
    return [
        NodeEntry(id=node.decode(), about=about.get(node, b"").decode(), seen_ms=int(score))
        for node, score in sorted(zip(seen[::2], seen[1::2], strict=True))
    ]
