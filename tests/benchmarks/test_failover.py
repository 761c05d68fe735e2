"""What the failover benchmark makes of the requests that it recorded."""

from pathlib import Path

from benchmarks.chaos.outcomes import Kind, Outcome
from benchmarks.failover.__main__ import DOCS, END, START, markdown, read, write
from benchmarks.failover.run import Group, Row, group
from benchmarks.failover.scenarios import SCENARIOS


def ended(at: float, *, problem: str = "", kind: Kind = "call", sent: float | None = None) -> Outcome:
    begun = at if sent is None else sent
    return Outcome(kind=kind, process="A", sent=begun, ended=at, session="s", problem=problem)


def test_an_outage_is_from_the_last_good_call_to_the_first_good_one_after_it() -> None:
    seen = group(
        [
            ended(9.5, problem="HTTP 503"),
            ended(10.5),
            ended(12.0, problem="HTTP 503", sent=10.0),
            ended(13.0, kind="stream"),
            ended(14.0),
            ended(14.5),
        ],
        since=10.0,
    )

    assert seen is not None
    assert (seen.outage, seen.recovered, seen.slowest) == (3.5, 4.0, 2.0)
    assert (seen.requests, seen.failed, seen.sessions) == (5, {"HTTP 503": 1}, 1)


def test_a_group_without_requests_since_then_says_nothing() -> None:
    assert group([ended(1.0)], since=2.0) is None


def test_rows_are_kept_until_their_scenario_runs_again(tmp_path: Path) -> None:
    first, second, *_ = (scenario.name for scenario in SCENARIOS)
    path = tmp_path / "failover.json"

    write(path, a_row(second, lost=1), {})
    write(path, a_row(first), {})
    write(path, a_row(second), {"clients": 3})

    rows, about = read(path)
    assert rows == [a_row(first), a_row(second)]
    assert "clients 3" in markdown(rows, about)


def test_the_page_has_a_place_for_the_table() -> None:
    text = DOCS.read_text()
    assert text.index(START) < text.index(END)


def a_row(name: str, *, lost: int = 0) -> Row:
    seen = Group(sessions=1, requests=2, failed={"HTTP 503": 1}, outage=1.0, recovered=1.5, slowest=0.5)
    return Row(
        name=name,
        took=1.0,
        calm=seen,
        concerned=seen,
        others=None,
        wrong=0,
        writes=3,
        writes_lost=lost,
        sessions_lost=0,
        ended=0,
        alive_again=0,
        stuck=0,
        messages=0,
        messages_lost=0,
        messages_doubled=0,
        tracebacks=0,
    )
