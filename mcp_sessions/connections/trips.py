"""Scripts that wait for Redis, and those on their way."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from mcp_sessions.connections.round_trips import Job, NoReply

#: A job, its reply, and until when there must be one, by the loop's clock.
Waiting = tuple[Job, "asyncio.Future[Any]", float]


@dataclass(slots=True, eq=False)
class Trip:
    """Scripts on their way, in a task, and until when the replies must be there, by the loop's clock."""

    task: "asyncio.Task[None]"
    waiting: list[Waiting]
    deadline: float
    #: How often it was told to wait no longer.
    ended: int = 0

    def end(self) -> None:
        """Wait no longer."""
        self.ended += 1
        self.task.cancel()

    def is_ended_alone(self) -> bool:
        """Whether nothing else has cancelled the task. The trip is over."""
        for _ in range(self.ended):
            self.task.uncancel()
        return not self.task.cancelling()


def give_up(waiting: "deque[Waiting] | list[Waiting]", reply: NoReply) -> None:
    for _, future, _ in waiting:
        if not future.done():
            future.set_result(reply)
