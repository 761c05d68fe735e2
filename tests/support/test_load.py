"""The load itself."""

import threading

import pytest

from tests.support.load import Call, load
from tests.support.mcp_client import RawClient
from tests.support.processes import free_port


def test_the_calls_of_a_test_that_fails_end_with_it() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        fail_under_load()
    assert threading.active_count() == before


def fail_under_load() -> None:
    call = Call(client=RawClient(), message=None, enough=1)
    with load([call], [f"http://127.0.0.1:{free_port()}"]):
        raise ZeroDivisionError
