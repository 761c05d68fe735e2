"""Every connection of a test is closed at its end."""

from collections.abc import Iterator

import pytest

from tests.support.sockets import SocketClient


@pytest.fixture(autouse=True)
def _close_connections() -> Iterator[None]:
    with SocketClient.opened:
        yield
