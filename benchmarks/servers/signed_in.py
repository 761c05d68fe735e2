"""This app for a client that has authenticated, whose requests it may count."""

from typing import Any

from benchmarks.servers import ours


class User:
    """What authentication would have found."""

    is_authenticated = True
    pk = 1


_USER = User()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The application, behind an authentication that costs nothing."""
    if scope["type"] == "http":
        scope = {**scope, "user": _USER}
    await ours.application(scope, receive, send)
