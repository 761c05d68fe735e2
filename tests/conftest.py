"""Fixtures that several suites share, how tests are spread over processes (support/distribution.py), and the rule that
nothing is skipped in silence (support/programs.py)."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis  # noqa: F401 - it warns if it comes after `tune_garbage_collector`, of objects that nobody can find
import pytest
from pytest_django import Settings

from mcp_sessions.authentication import blocking, threads
from tests.support import ROOT, logs, programs
from tests.support.caches import Entry, default_cache, standalone_cache
from tests.support.distribution import (  # noqa: F401 - hooks
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from tests.support.gates import Gate
from tests.support.gates import gate as opened_gate
from tests.support.mcp_client import RawClient, connected
from tests.support.processes import Process
from tests.support.redis import (
    RedisCluster,
    RedisServer,
    SentinelTrio,
    run_cluster,
    run_sentinels,
    run_server,
)


def pytest_configure() -> None:
    """Let the processes that tests start hear Ctrl-C: a shell has its background jobs ignore it, and all below them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    programs.require(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := programs.what_was_not_run(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("NOT RUN HERE", yellow=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line, yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        programs.CI
        and reporter is not None
        and reporter.stats.get("skipped")
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _fail_for_logs(expected: Sequence[str]) -> None:
    if faults := logs.new_faults(expected):
        pytest.fail("Servers logged:\n\n" + "\n\n".join(faults), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _clean_last_logs() -> Iterator[None]:
    """Servers that outlive a test have logged no fault by the end of the run."""
    yield
    _fail_for_logs([])


@pytest.fixture(autouse=True)
def _clean_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """No server has logged a fault (see `support.logs`) except those that the test's mark `logs_fault` announces."""
    yield
    _fail_for_logs([words for mark in request.node.iter_markers("logs_fault") for words in mark.args])


@pytest.fixture(autouse=True)
def _own_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads that authenticate for this test only, and no blocks without a database.

    Django never closes a connection to a database in memory, and a test without a database may not touch one that a
    test before has left in a thread.
    """
    pool = ThreadPoolExecutor(threads.THREADS)
    monkeypatch.setattr(threads, "_pool", pool)
    if not (
        request.node.get_closest_marker("django_db")
        or {"db", "transactional_db"}.intersection(request.fixturenames)
    ):
        monkeypatch.setattr(blocking, "_active", lambda _: [])
    yield
    pool.shutdown(wait=False)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its users install it, built from what is here."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), "."]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server for the whole run; use namespaces or databases of your own, or flush it."""
    with run_server() as server:
        yield server


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelTrio]:
    """A primary, a replica and their Sentinels for the whole run; leave the primary the primary."""
    with run_sentinels() as trio:
        yield trio


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    """A Cluster for the whole run, without replicas; a test may move slots, and stops no node."""
    with run_cluster() as nodes:
        yield nodes


@pytest.fixture
def redis_caches(redis_server: RedisServer, settings: Settings) -> Iterator[dict[str, Entry]]:
    """CACHES, whose default is the standalone server."""
    with default_cache(settings, standalone_cache(redis_server)) as entry:
        yield {"default": entry}


@pytest.fixture
def a(processes: list[Process]) -> str:
    """The URL of one process; each suite has `processes` of its own."""
    return processes[0].url


@pytest.fixture
def b(processes: list[Process]) -> str:
    """The URL of the other."""
    return processes[1].url


@pytest.fixture
def client(a: str) -> RawClient:
    """A client with a session that process A initialized."""
    return connected(a)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for one handler."""
    with opened_gate(tmp_path) as opened:
        yield opened
