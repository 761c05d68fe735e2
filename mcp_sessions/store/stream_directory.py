"""Streams, nodes and doorbells in Redis: the sync face, through django-redis' own connection."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mcp_sessions.store.commands import Call
from mcp_sessions.store.directory import SyncClient, ask
from mcp_sessions.store.stream_commands import StreamCommands
from mcp_sessions.store.streaming import Appended, Node, StreamLimits

T = TypeVar("T")


class RedisStreamDirectory:
    """See `streaming.StreamDirectory`."""

    def __init__(self, commands: StreamCommands, connect: Callable[[], SyncClient]) -> None:
        self._commands = commands
        self._connect = connect

    def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        return self._one(self._commands.publish(fingerprint, payloads, key, limits))

    def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        calls = [self._commands.ring(node, rung) for node, rung in messages.items() if rung]
        if calls:
            ask(self._connect, calls)

    def ring_all(self, message: bytes) -> None:
        self.ring({node.id: [message] for node in self.nodes()})

    def post(self, notice: bytes) -> None:
        self._one(self._commands.post(notice))

    def nodes(self) -> Sequence[Node]:
        return self._one(self._commands.nodes())

    def _one(self, call: Call[T]) -> T:
        [result] = ask(self._connect, [call])
        value: T = result
        return value
