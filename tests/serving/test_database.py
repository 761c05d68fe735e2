"""Django's ORM in tools: no connection is left open, and queries do not wait for a single thread."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.mcp_client import RawClient
from tests.support.processes import Process, wait_until

CALLS = 200
AT_ONCE = 50


def open_connections(process: Process) -> int:
    """How often a process has its SQLite database open."""
    database = process.environment["DATABASE_URL"].removeprefix("sqlite:///")
    descriptors = Path(f"/proc/{process.pid}/fd")
    return sum(_target(entry) == database for entry in descriptors.iterdir())


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # closed since the directory was read
        return ""


@pytest.mark.parametrize("tool", ["query", "aquery"])
def test_two_hundred_concurrent_calls_leave_no_connection_open(
    processes: list[Process], client: RawClient, tool: str
) -> None:
    url = processes[0].url
    with ThreadPoolExecutor(AT_ONCE) as callers:
        answers = list(callers.map(lambda _: client.value(url, tool), range(CALLS)))
    assert answers == [42] * CALLS
    wait_until(lambda: open_connections(processes[0]) == 0, what="closed connections")


def test_async_orm_calls_of_different_requests_run_at_the_same_time(a: str, client: RawClient) -> None:
    parties = 5
    with ThreadPoolExecutor(parties) as callers:
        places = list(callers.map(lambda _: client.value(a, "meet", parties=parties), range(parties)))
    assert sorted(places) == list(range(parties))
