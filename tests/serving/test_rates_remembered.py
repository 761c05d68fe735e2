"""What a process remembers of buckets that are empty, and what it tells who is refused."""

import json
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import counting
from mcp_sessions.conf.rates import limits_of
from mcp_sessions.serving import limits as serving_limits
from mcp_sessions.serving.limits import RateLimits, counted_as
from mcp_sessions.store.calls import rates
from mcp_sessions.store.calls.rates import Lacking, Who
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.rejections import Rejection
from tests.serving.contexts import Process

WHATS = ("requests", "tool add")
RATES = {"requests per principal": "5/s", "tool add per principal": "1/m"}


@pytest.fixture
def now() -> Iterator[mock.Mock]:
    with mock.patch.object(time, "monotonic", return_value=1_000.0) as clock:
        yield clock


def limiting(alias: str = "default") -> RateLimits:
    return RateLimits(Process(alias=alias, rate_limits=RATES).context)


def lacking(limits: RateLimits, number: int, wait_ms: int, who: str = "user:1") -> Lacking:
    """The bucket of a limit has no token for so long."""
    wanted = rates.buckets(limits_of(RATES), WHATS, Who(who), shards=1)
    return Lacking(wanted[number], wait_ms)


def told(rejection: Any) -> tuple[str, int]:
    """What somebody is refused for, and after how long to try again."""
    assert isinstance(rejection, Rejection)
    assert rejection.status == 429
    seconds = int(dict(rejection.headers)[b"retry-after"])
    message = json.loads(rejection.body)["error"]["message"]
    assert message.endswith(f" is reached. Try again in {seconds} s.")
    return message.partition("the limit of ")[2].partition(" is reached")[0], seconds


def test_the_longest_wait_is_told_in_whole_seconds(now: mock.Mock) -> None:
    limits = limiting("told")
    assert limits.judge([None, 0]) is None
    rejection = limits.judge(
        [None, lacking(limits, 0, 200), lacking(limits, 1, 30_001), lacking(limits, 0, 100)]
    )
    assert told(rejection) == ("tool add per principal", 31)
    assert told(limits.judge([lacking(limits, 0, 1)])) == ("requests per principal", 1)
    assert told(limits.judge([lacking(limits, 0, 2_000)])) == ("requests per principal", 2)
    assert told(limits.judge([lacking(limits, 0, 0)])) == ("requests per principal", 1)
    assert limits.refused == 4
    assert counting.since_the_start("told").numbers == {
        "limited:tool add per principal": 1,
        "limited:requests per principal": 3,
    }


def test_an_empty_bucket_costs_the_store_nothing_until_it_has_a_token(now: mock.Mock) -> None:
    limits = limiting()
    assert len(limits.calls(WHATS, Who("user:1"))) == 1  # type: ignore[arg-type] # one place
    limits.judge([lacking(limits, 1, 1_500)])
    now.return_value += 1.0
    assert told(limits.calls(WHATS, Who("user:1"))) == ("tool add per principal", 1)
    assert not isinstance(limits.calls(("requests",), Who("user:1")), Rejection), "another bucket"
    assert not isinstance(limits.calls(WHATS, Who("user:2")), Rejection), "somebody else's"
    now.return_value += 0.4999
    assert isinstance(limits.calls(WHATS, Who("user:1")), Rejection)
    now.return_value += 0.0001
    assert not isinstance(limits.calls(WHATS, Who("user:1")), Rejection)


def test_so_many_empty_buckets_are_remembered_and_those_that_are_full_again_make_room(
    now: mock.Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_limits, "MOST_REMEMBERED", 2)
    limits = limiting()

    def known() -> list[bool]:
        return [isinstance(limits.calls(WHATS, Who(f"u{n}")), Rejection) for n in range(5)]

    for number, wait_ms in enumerate((1_000, 2_000, 5_000)):
        limits.judge([lacking(limits, 0, wait_ms, f"u{number}")])
    assert known() == [True, True, False, False, False]
    now.return_value += 1.0
    limits.judge([lacking(limits, 0, 5_000, "u3"), lacking(limits, 0, 5_000, "u4")])
    assert known() == [False, True, False, True, False]


async def test_a_request_takes_its_tokens_from_the_store() -> None:
    limits = RateLimits(Process(rate_limits={"requests per principal": "2/h"}).context)
    refusals = [await limits.refusal(("requests",), Who("user:1")) for _ in range(3)]
    assert [each is None for each in refusals] == [True, True, False]
    assert told(refusals[2])[0] == "requests per principal"
    assert told(await limits.refusal(("requests",), Who("user:1")))[1] > 1_700
    assert await limits.refusal(("requests",), Who("user:2")) is None
    assert await limits.refusal(("streams",), Who("user:1")) is None, "nothing limits that"


@pytest.mark.parametrize(
    ("method", "params", "names"),
    [
        ("initialize", {}, ["requests", "initialize"]),
        ("subscriptions/listen", {}, ["requests", "streams"]),
        ("tools/call", {"name": "add"}, ["requests", "tool add"]),
        ("tools/call", None, ["requests", "tool None"]),
        ("ping", None, ["requests"]),
        ("tools/list", None, ["requests"]),
    ],
)
def test_a_message_counts_as_what_it_is(method: str, params: Any, names: list[str]) -> None:
    assert list(counted_as(jsonrpc.Request(id=1, method=method, params=params))) == names
    assert list(counted_as(jsonrpc.Notification(method=method, params=params))) == ["requests"]
