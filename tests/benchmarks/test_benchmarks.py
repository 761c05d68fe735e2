"""The benchmark's harness: a run with tiny numbers, and what it computes and writes."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import modern
from benchmarks.__main__ import DOCS, LATEST
from benchmarks.contestants import BY_NAME, CONTESTANTS
from benchmarks.load import is_complete
from benchmarks.measure import Sample
from benchmarks.memory import Footprint
from benchmarks.modern import MODERN
from benchmarks.report import END, START, Run, disturbance, markdown, read, write_docs
from benchmarks.targets import Promise, Verdict, promises, verdicts
from tests.support import ROOT


def sample(
    contestant: str, number: int, *, rate: float = 100.0, p99: float = 10.0, sessions: int = 1
) -> Sample:
    return Sample(
        contestant=contestant,
        sessions=sessions,
        connections=16,
        round=number,
        requests=1,
        requests_per_second=rate,
        p50_ms=1.0,
        p99_ms=p99,
        cpu_us=1.0,
        server_busy=1.0,
        load_busy=0.1,
        resident_mib=80.0,
    )


def verdict_of(text: str, samples: list[Sample], weighed: list[Footprint] | None = None) -> Verdict:
    (found,) = [v for v in verdicts(samples, weighed or []) if v.text.startswith(text)]
    return found


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    output = tmp_path_factory.mktemp("benchmark") / "results.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--only",
        "ours-daphne",
        "sdk-json-daphne",
        "--output",
        str(output),
    ]
    numbers = [
        "--connections",
        "2",
        "--sessions",
        "3",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--idle",
        "5",
        "--warm-up",
        "20",
    ]
    done = subprocess.run([*command, *numbers], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(output.read_text())
    return found


def test_a_tiny_run_measures_every_server_at_every_load(tiny_run: dict[str, object]) -> None:
    samples = tiny_run["samples"]
    assert isinstance(samples, list)
    measured = {(s["contestant"], s["sessions"], s["connections"]) for s in samples}
    assert measured == {(name, 3, 2) for name in ("ours-daphne", "sdk-json-daphne")}
    assert all(s["requests"] > 0 and s["p99_ms"] >= s["p50_ms"] > 0 for s in samples)
    assert tiny_run["missing"] == {}


def test_a_tiny_run_measures_idle_sessions(tiny_run: dict[str, object]) -> None:
    footprints = tiny_run["footprints"]
    assert isinstance(footprints, list)
    assert [(f["contestant"], f["sessions"]) for f in footprints] == [
        ("ours-daphne", 5),
        ("sdk-json-daphne", 5),
    ]
    assert all(isinstance(f[key], float) for f in footprints for key in ("process_bytes", "redis_bytes"))


def test_a_ratio_is_the_median_over_rounds_of_this_app_over_the_other() -> None:
    ours = [sample("ours-daphne", n, rate=rate) for n, rate in enumerate((140.0, 300.0, 150.0))]
    other = [sample("sdk-json-daphne", n) for n in range(3)]
    verdict = verdict_of("requests/s against sdk-json-daphne, 1 session", ours + other)
    assert (verdict.value, verdict.lowest, verdict.highest, verdict.met) == (1.5, 1.4, 3.0, True)


def test_a_ratio_is_given_with_either_server_under_both() -> None:
    rates = {
        "ours-daphne": 200.0,
        "ours-unpatched": 150.0,
        "sdk-json-daphne": 100.0,
        "sdk-json-patched": 125.0,
    }
    samples = [sample(name, 0, rate=rate) for name, rate in rates.items()]
    verdict = verdict_of("requests/s against sdk-json-daphne, 1 session", samples)
    assert (verdict.value, verdict.unpatched, verdict.both_patched) == (2.0, 1.5, 1.6)


def test_a_ratio_below_its_bound_is_missed() -> None:
    samples = [sample("ours-daphne", 0, rate=139.0), sample("sdk-json-daphne", 0)]
    assert verdict_of("requests/s against sdk-json-daphne, 1 session", samples).met is False


def test_latency_must_be_at_most_half_of_the_others() -> None:
    samples = [sample("ours-daphne", 0, p99=5.0, sessions=1000), sample("sdk-sse-daphne", 0, sessions=1000)]
    assert verdict_of("p99 against sdk-sse-daphne", samples).met is True


def test_what_a_run_did_not_measure_is_neither_met_nor_missed() -> None:
    assert {verdict.met for verdict in verdicts([], [])} == {None}


def test_memory_is_judged_at_the_largest_number_of_sessions() -> None:
    weighed = [
        Footprint(contestant="ours-daphne", sessions=10, process_bytes=9000, redis_bytes=5000),
        Footprint(contestant="ours-daphne", sessions=10_000, process_bytes=1, redis_bytes=1000),
    ]
    assert verdict_of("process memory", [], weighed).met is True
    assert verdict_of("Redis memory", [], weighed).met is True


def test_a_run_on_a_busy_machine_says_so() -> None:
    quiet = [sample("ours-daphne", number) for number in range(3)]
    assert disturbance(quiet) == []
    assert "50% of their core" in disturbance([replace(each, server_busy=0.5) for each in quiet])[0]


def test_every_promise_names_a_server_that_is_measured() -> None:
    assert {promise.other for promise in promises()} <= set(BY_NAME)


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nServer: x\r\n\r\no", False),
        (b"HTTP/1.1 200 OK\r\nContent-Len", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nx\r\n\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_an_answer_is_complete_when_all_that_was_announced_is_there(answer: bytes, complete: bool) -> None:
    assert is_complete(answer) is complete


def test_results_survive_a_round_trip_through_json(tmp_path: Path) -> None:
    run = a_run()
    path = tmp_path / "run.json"
    path.write_text(run.as_json())
    assert read(path) == run


def test_the_tables_go_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before {START} old {END} after")
    write_docs(page, a_run())
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after")
    assert "old" not in text
    assert "Rounds without a sample: mcp-persist, round 1" in text
    assert "| this app, Redis (daphne) | 16 | 100 (100 to 100) |" in text


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        write_docs(page, a_run())


def test_the_documented_tables_are_those_of_the_latest_results() -> None:
    assert markdown(read(LATEST)) in DOCS.read_text()


def test_the_documented_tables_of_the_modern_era_are_those_of_the_latest_results() -> None:
    assert modern.markdown(*modern.read(modern.LATEST)) in DOCS.read_text()


def test_a_ratio_of_the_modern_era_is_taken_on_one_server_within_a_round() -> None:
    samples = [sample("ours-uvicorn", n, rate=rate) for n, rate in enumerate((300.0, 150.0, 200.0))]
    samples += [sample("sdk-uvicorn", n) for n in range(2)] + [sample("sdk-patched", 2, rate=1.0)]
    assert modern.ratios(samples, modern.OURS, modern.SDK, modern.RATE, "uvicorn") == [1.5, 3.0]
    table = modern.markdown(samples, {"mcp": "2.3.0"})
    assert (
        "| this app against SDK, default mode (uvicorn) | requests/s ≥ 1.8 × | 2.25 × (1.88 to 2.62) | met |"
        in table
    )


def test_a_tiny_run_of_the_modern_era_measures_both_eras() -> None:
    names = ["ours-uvicorn", "ours-handshake-uvicorn", "sdk-json-uvicorn"]
    samples = modern.run(names, 2, 2, 0.1)
    assert {(each.contestant, each.sessions) for each in samples} == {
        ("ours-uvicorn", 0),
        ("ours-handshake-uvicorn", 1),
        ("sdk-json-uvicorn", 0),
    }


def test_the_page_names_every_option() -> None:
    from benchmarks.__main__ import parser

    page = DOCS.read_text()
    options = set(re.findall(r"(?<!\w)--[a-z]+", parser().format_help()))
    assert {option for option in options if f"`{option}" not in page} == {"--help"}


def test_every_peer_has_its_versions_pinned() -> None:
    peers = {c.peer for c in (*CONTESTANTS, *MODERN) if c.peer}
    files = {path.stem: path.read_text().splitlines() for path in (ROOT / "benchmarks/peers").glob("*.txt")}
    assert set(files) == peers
    assert all("==" in line for lines in files.values() for line in lines if not line.startswith("#"))


def test_a_promise_says_what_it_compares() -> None:
    promise = Promise(other="sdk-json-daphne", sessions=1000, field="requests_per_second", bound=1.8)
    assert promise.text == "requests/s against sdk-json-daphne, 1,000 sessions: ≥ 1.8 ×"


def a_run() -> Run:
    samples = [sample("ours-daphne", 0), sample("sdk-json-daphne", 0)]
    weighed = [Footprint(contestant="ours-daphne", sessions=10, process_bytes=0.0, redis_bytes=800.0)]
    return Run(
        began="2026-01-02T03:04:05+00:00",
        options={"rounds": 1, "seconds": 1.0},
        environment={"Python": "3.11"},
        versions={"ours-daphne": {"mcp": "2.3.0"}},
        samples=samples,
        footprints=weighed,
        verdicts=verdicts(samples, weighed),
        missing={"mcp-persist": "PeerError: offline"},
        incidents=["mcp-persist, round 1: no answer for 20 s"],
    )
