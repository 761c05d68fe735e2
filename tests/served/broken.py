"""Callables for SERVER that give no server."""

from typing import Never


def fails() -> Never:
    raise RuntimeError("no connection to the warehouse")


def nothing() -> None:
    """Somebody forgot the `return`."""
