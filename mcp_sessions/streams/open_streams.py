"""The streams that are delivered from the log in this process, one follower a connection."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from mcp_sessions.conf import Endpoint
from mcp_sessions.serving.held import Held
from mcp_sessions.store.session import STANDALONE
from mcp_sessions.streams.writer import Follower


class Followers:
    """Who follows what, oldest first, and how many streams are open in all, those of other requests included."""

    def __init__(self, conf: Callable[[], Endpoint], held: Held) -> None:
        self._conf = conf
        self._held = held
        self._following: dict[tuple[str, str], list[Follower]] = {}
        self._open = 0

    def __iter__(self) -> Iterator[Follower]:
        """All of them; the set may change while the caller goes through it."""
        return iter([follower for followers in self._following.values() for follower in followers])

    def admit(self) -> bool:
        """Count one more stream, or what may become one; `leave` when it is over. False if there are too many."""
        if self._open >= self._conf().max_streams:
            return False
        self._open += 1
        return True

    def leave(self) -> None:
        """What was admitted is over."""
        self._open -= 1

    @property
    def listening(self) -> set[str]:
        """The sessions whose standalone stream is delivered here."""
        return {follower.fingerprint for follower in self if follower.stream == STANDALONE and follower.valid}

    def follow(self, follower: Follower) -> "asyncio.Task[None]":
        """Run a follower until `unfollow`, which takes the task, and keep its session alive meanwhile."""
        self._following.setdefault((follower.fingerprint, follower.stream), []).append(follower)
        self._close_surplus(follower.fingerprint)
        self._held.hold(follower.fingerprint)
        return asyncio.create_task(follower.run())

    def unfollow(self, follower: Follower, task: "asyncio.Task[None]") -> None:
        """The follower's connection is closed."""
        self._held.release(follower.fingerprint)
        task.cancel()
        key = (follower.fingerprint, follower.stream)
        self._following[key].remove(follower)
        if not self._following[key]:
            del self._following[key]

    def nudge(self, fingerprint: str, stream: str) -> None:
        """Something was said on a stream, or somebody else took it over."""
        for follower in self._following.get((fingerprint, stream), ()):
            follower.nudge()

    def end(self, followers: Iterable[Follower]) -> None:
        """Close the connections of these after what is queued."""
        for follower in followers:
            follower.delivery.end()

    def of(self, fingerprint: str) -> list[Follower]:
        return [follower for follower in self if follower.fingerprint == fingerprint]

    def _close_surplus(self, fingerprint: str) -> None:
        """Keep a session to its number of open streams: the oldest make room."""
        mine = [follower for follower in self.of(fingerprint) if follower.delivery.open]
        self.end(mine[: max(0, len(mine) - self._conf().max_streams_per_session)])
