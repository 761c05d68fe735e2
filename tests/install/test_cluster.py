"""`make cluster`: what is killed is missed by nobody, and everything ends with it."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from project.cluster import proxy
from project.run import CannotStart
from tests.install.running import Demo, children_of, demo
from tests.support.processes import wait_until

#: Answers that must have come before and after something is killed, and seconds for each to come.
ANSWERS: Final = 20
BOUND: Final = 40
#: A line of the client: who answered, and what went wrong.
LINE: Final = re.compile(r"^\d\d:\d\d:\d\d  ((?:[ABC!] ?)+)  \d+ ms at most(.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("cluster"), module="project.cluster") as running:
        yield running.wait_until_it_says("Ctrl-C ends everything")


def answers(cluster: Demo) -> list[str]:
    """Who answered each call so far."""
    return [who for line, _ in LINE.findall(cluster.output) for who in line.split()]


def goes_on(cluster: Demo, enough: Callable[[list[str]], bool]) -> list[str]:
    """Wait for answers that are enough, counted from now; all answers until then."""
    before = len(answers(cluster))

    def since() -> list[str]:
        found = answers(cluster)[before:]
        return found if enough(found) else []

    return wait_until(since, seconds=BOUND, what=f"more answers\n{cluster.output}")


def pid_of(cluster: Demo, name: str) -> int:
    """The process id that it last printed for this part."""
    printed = re.findall(
        rf"^    {name} .*kill -9 (\d+)$|  {name} was started again: its process id is (\d+) now",
        cluster.output,
        re.MULTILINE,
    )
    return int("".join(printed[-1]))


@pytest.mark.needs("nginx")
def test_every_process_answers_every_session_in_turn(cluster: Demo) -> None:
    seen = goes_on(cluster, lambda found: len(found) >= ANSWERS)
    assert set(seen) == {"A", "B", "C"}


@pytest.mark.needs("nginx")
def test_what_is_killed_comes_back_and_no_session_is_lost(cluster: Demo) -> None:
    killed = {name: pid_of(cluster, name) for name in ("A", "nginx", "valkey-2")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in killed.items():
        wait_until(lambda this=(name, pid): pid_of(cluster, this[0]) != this[1], seconds=BOUND, what=name)  # type: ignore[misc]
        assert f"{name} has ended (SIGKILL)" in cluster.output
    goes_on(cluster, lambda found: set(found[-ANSWERS:]) == {"A", "B", "C"} and len(found) >= ANSWERS)
    assert "the session" not in cluster.output


@pytest.mark.needs("nginx")
def test_a_process_that_is_asked_to_end_fails_no_call(cluster: Demo) -> None:
    before, stopped = len(LINE.findall(cluster.output)), pid_of(cluster, "B")
    os.kill(stopped, signal.SIGTERM)
    wait_until(lambda: pid_of(cluster, "B") != stopped, seconds=BOUND, what="it to be started again")
    goes_on(cluster, lambda found: found.count("B") > 1)
    assert [problems for _, problems in LINE.findall(cluster.output)[before:] if problems] == []


@pytest.mark.needs("nginx")
def test_it_ends_everything_that_it_started(cluster: Demo) -> None:
    """A process that hangs as well."""
    started = children_of(cluster.process.pid)
    assert len(started) == 7
    folder = Path(re.findall(r"^  Logs +(\S+)$", cluster.output, re.MULTILINE)[0])
    os.kill(pid_of(cluster, "C"), signal.SIGSTOP)
    assert cluster.press_ctrl_c() == 0, cluster.output
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    assert not folder.exists()
    assert cluster.output.endswith("Stopped: everything that was started here has ended.\n")


def test_without_nginx_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(CannotStart, match=r"needs nginx, which is not installed\. Try: apt install nginx"):
        proxy.make_proxy(8000, [], tmp_path)
