"""What belongs to one event loop, such as connections."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value for each running event loop, made on first use; those of closed loops are dropped.

    Loops may run in several threads.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """The value of the running loop."""
        running = asyncio.get_running_loop()
        value = self._values.get(running)
        if value is None:
            for closed in [loop for loop in list(self._values) if loop.is_closed()]:
                self._values.pop(closed, None)
            value = self._values[running] = self._make()
        return value

    def pop(self) -> T | None:
        """The value of the running loop, if there is one; the next `get` makes another."""
        return self._values.pop(asyncio.get_running_loop(), None)
