"""RATE_LIMITS as the settings write it: what is read of it, and what is refused."""

import pytest

from mcp_sessions.conf.rates import Limit, Rate, are_limits, limits_of

DAY_MS = 86_400_000


def rate(text: object) -> Rate:
    [limit] = limits_of({"requests per principal": text})["requests"]  # type: ignore[dict-item] # any value
    return limit.rate


@pytest.mark.parametrize(
    ("what", "whom"),
    [
        ("requests", ("principal", "session", "address")),
        ("streams", ("principal", "session", "address")),
        ("initialize", ("principal", "address")),
        ("handles", ("principal", "address")),
        ("tool search", ("principal", "session", "address")),
    ],
)
def test_each_thing_is_counted_for_those_that_it_may_be_counted_for(what: str, whom: tuple[str, ...]) -> None:
    everybody = ("principal", "session", "address", "endpoint", "")
    assert tuple(each for each in everybody if are_limits({f"{what} per {each}": "1/s"})) == whom
    assert limits_of({f"{what} per {each}": "1/s" for each in whom}) == {
        what: tuple(Limit(what, each, Rate(1, 1000)) for each in whom)
    }


@pytest.mark.parametrize(
    "name", ["tool ", "tool", "tools", "request", "", "per", "requests", "requests per principal ", 1, None]
)
def test_a_name_that_says_nothing_that_is_counted_is_refused_and_repeated(name: object) -> None:
    setting = {name: "1/s", f"{name} per principal": "1/s"}
    assert not are_limits(setting)
    with pytest.raises(ValueError, match=f"it counts nothing under {name!r}"):
        limits_of(setting)  # type: ignore[arg-type] # that is the point


def test_a_tool_may_have_any_name_and_says_for_whom_at_the_end() -> None:
    limits = limits_of({"tool a per session\n per address": "1/s"})
    assert [str(limit) for limit in limits["tool a per session\n"]] == ["tool a per session\n per address"]
    assert limits["tool a per session\n"][0].whom == "address"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/s", Rate(1, 1_000)),
        ("600/m", Rate(600, 60_000)),
        ("2/h", Rate(2, 3_600_000)),
        ("3/d", Rate(3, DAY_MS)),
        ("100/10s", Rate(100, 10_000)),
        ("999999999/366d", Rate(999_999_999, 366 * DAY_MS)),
        ("1/999999s", Rate(1, 999_999_000)),
        ("1/8784h", Rate(1, 366 * DAY_MS)),
    ],
)
def test_a_rate_is_so_many_tokens_in_a_time(text: str, expected: Rate) -> None:
    assert rate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("0/s", "01/s", "-1/s", "1/0s", "1/01s", "1/w", "1/", "/s", "1", "1s", "", "1/s ", "1/s\n", " 1/s"),
        *("1.5/s", "1000000000/s", "1/1000000s", 1, None, ("1/s",)),
    ],
)
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        rate(text)
    assert not are_limits({"requests per principal": text})


@pytest.mark.parametrize("text", ["1/367d", "1/8785h"])
def test_a_time_of_more_than_a_leap_year_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is longer than a year"):
        rate(text)


def test_only_a_dictionary_has_limits_and_it_may_be_empty() -> None:
    assert are_limits({})
    assert limits_of({}) == {}
    assert not are_limits([("requests per principal", "1/s")])
    assert not are_limits("requests per principal")
    assert not are_limits(None)
