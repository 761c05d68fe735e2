"""daphne as it is, daphne behind our guard, and our daphne: three bugs, and how a process ends.

Real processes, and sockets by hand where a client library would hide what is on the wire. The tests named "plain" show
the bug; if one of them fails, daphne has fixed it, and ours can go.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.daphne.harness import ask, running, server
from tests.served.misbehaving import LARGE_BYTES
from tests.support import ROOT
from tests.support.processes import START_BOUND, Process, wait_until
from tests.support.sockets import ANSWER_SECONDS, SocketClient

HALF_A_REQUEST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"

#: Three servers for all tests here, whichever of pytest's processes runs them.
pytestmark = pytest.mark.logs_fault(
    "RuntimeError: before the response", "RuntimeError: after the response has started"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("daphne", tmp_path_factory.mktemp("plain")) as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("daphne", tmp_path_factory.mktemp("guarded"), guarded=True) as process:
        yield process


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("mcp_sessions.daphne", tmp_path_factory.mktemp("ours")) as process:
        yield process


# What daphne does


def test_plain_daphne_lets_the_client_of_a_cancelled_application_hang(plain: Process) -> None:
    assert SocketClient(plain).send("/cancel-first").hears_nothing()


def test_plain_daphne_lets_the_client_of_a_silent_application_hang(plain: Process) -> None:
    assert SocketClient(plain).send("/say-nothing").hears_nothing()


def test_plain_daphne_no_longer_answers_exceptions_after_one_within_a_response(tmp_path: Path) -> None:
    with running("daphne", tmp_path) as process:
        assert ask(process, "/raise-first").status == 500
        broken = ask(process, "/raise-later")
        assert broken.read(5) == b"chunk"
        process.wait_until_it_says("after the response has started")
        assert SocketClient(process).send("/raise-first").hears_nothing()


def test_plain_daphne_cancels_nothing_when_a_request_is_half_sent(tmp_path: Path) -> None:
    with running("daphne", tmp_path) as process:
        half = SocketClient(process)
        half.socket.sendall(HALF_A_REQUEST)
        waiting = SocketClient(process).send("/for-ever")
        process.wait_until_it_says("waiting")
        process.send_signal(signal.SIGTERM)
        assert waiting.socket.recv(1) == b""
        process.exit_code(seconds=ANSWER_SECONDS)
        assert "cancelled" not in process.output()


# What the guard makes of it, under the plain daphne command


def test_the_guard_answers_an_exception_with_a_json_rpc_error(guarded: Process) -> None:
    response = ask(guarded, "/raise-first")
    assert response.status == 500
    assert json.load(response)["error"]["code"] == -32603
    guarded.wait_until_it_says("RuntimeError: before the response")


def test_the_guard_answers_a_leaked_cancellation_with_503_and_retry_after(guarded: Process) -> None:
    response = ask(guarded, "/cancel-first")
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert json.load(response)["jsonrpc"] == "2.0"


def test_the_guard_answers_for_a_silent_application(guarded: Process) -> None:
    assert ask(guarded, "/say-nothing").status == 500


@pytest.mark.parametrize("path", ["/raise-later", "/cancel-later"])
def test_the_guard_ends_a_response_that_has_started_and_the_process_goes_on(
    guarded: Process, path: str
) -> None:
    assert ask(guarded, path).read() == b"chunk"
    assert ask(guarded, "/raise-first").status == 500
    assert ask(guarded, "/healthz").read() == b"fine"


def test_the_guard_answers_what_plain_daphne_cancels_at_the_end(tmp_path: Path) -> None:
    with running("daphne", tmp_path, guarded=True) as process:
        waiting = SocketClient(process).send("/for-ever")
        process.wait_until_it_says("waiting")
        process.send_signal(signal.SIGTERM)
        assert waiting.response().status == 503
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


# What our server does, without the guard


@pytest.mark.parametrize(
    ("path", "status"), [("/raise-first", 500), ("/cancel-first", 503), ("/say-nothing", 500)]
)
def test_our_daphne_answers_for_an_application_that_did_not(ours: Process, path: str, status: int) -> None:
    assert ask(ours, path).status == status


@pytest.mark.parametrize("path", ["/raise-later", "/cancel-later"])
def test_our_daphne_cuts_a_response_short_so_that_the_client_knows(ours: Process, path: str) -> None:
    response = ask(ours, path)
    with pytest.raises(http.client.IncompleteRead):
        response.read()


def test_our_daphne_answers_exceptions_after_one_within_a_response(ours: Process) -> None:
    for _ in range(3):
        ask(ours, "/raise-later").read(5)
        assert ask(ours, "/raise-first").status == 500


def test_our_daphne_keeps_a_connection_alive_from_request_to_request(ours: Process) -> None:
    client = SocketClient(ours)
    for _ in range(3):
        assert client.send("/healthz").response().read() == b"fine"


def test_our_daphne_ignores_what_clients_say_about_its_root_path(plain: Process, ours: Process) -> None:
    forged = "Daphne-Root-Path: /forged"
    assert SocketClient(plain).send("/root-path", forged).response().read() == b"/forged"
    assert SocketClient(ours).send("/root-path", forged).response().read() == b""


def test_our_daphne_leaves_every_body_to_the_application(plain: Process, ours: Process) -> None:
    """Twisted would parse forms, which nobody here needs, and refuse those that it cannot parse."""
    answered = [
        posted(process, "multipart/form-data; boundary=b", b"not a part") for process in (plain, ours)
    ]
    assert answered == [400, 200]


def posted(process: Process, content_type: str, body: bytes) -> int:
    """The status of the answer to a POST."""
    connection = http.client.HTTPConnection(*process.address, timeout=ANSWER_SECONDS)
    with closing(connection):
        connection.request("POST", "/healthz", body, {"Content-Type": content_type})
        return connection.getresponse().status


@pytest.mark.parametrize(("verbosity", "written"), [("1", False), ("2", True)])
def test_twisteds_access_log_is_written_to_whoever_asks_for_all(
    tmp_path: Path, verbosity: str, *, written: bool
) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--verbosity", verbosity) as process:
        assert ask(process, "/healthz").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert ('"GET /healthz HTTP/1.1" 200' in process.output()) is written


def test_our_command_takes_every_option_of_daphnes() -> None:
    def options(module: str) -> set[str]:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_BOUND, check=True)
        return set(re.findall(r"--[a-z_-]+", done.stdout))

    assert options("mcp_sessions.daphne") - options("daphne") == {"--drain-timeout", "--send-timeout"}
    assert options("daphne") <= options("mcp_sessions.daphne")


def test_the_console_script_is_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["mcp-sessions-daphne"].partition(":")
    assert (module, name) == ("mcp_sessions.daphne", "CommandLineInterface.entrypoint")


def test_our_daphne_says_what_is_wrong_with_its_arguments() -> None:
    command = server("mcp_sessions.daphne", Path(os.devnull), "--drain-timeout", "soon").command
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_BOUND, check=False)
    assert done.returncode == 2
    assert "--drain-timeout" in done.stderr


# How our server ends


def test_a_request_in_flight_finishes_and_new_connections_are_refused(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        in_flight = SocketClient(process).send("/until-released")
        open_already = SocketClient(process)
        assert open_already.send("/healthz").response().read() == b"fine"
        process.wait_until_it_says("waiting")
        process.send_signal(signal.SIGTERM)
        wait_until(process.refuses_connections, seconds=ANSWER_SECONDS, what="the port to close")
        released = open_already.send("/release").response()
        assert released.read() == b"fine"
        assert released.headers["Connection"] == "close"
        finished = in_flight.response()
        assert (finished.status, finished.read()) == (200, b"fine")
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert process.output().index("drain hook") < process.output().index("shutdown hook")


def test_connections_that_wait_to_be_accepted_when_it_stops_are_answered(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        process.pause()
        waiting = [SocketClient(process).send("/healthz") for _ in range(40)]
        process.send_signal(signal.SIGTERM)
        process.resume()
        assert [each.response().read() for each in waiting] == [b"fine"] * len(waiting)
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


def test_idle_connections_are_closed_before_requests_on_them_could_only_fail(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, HANGS_AT_SHUTDOWN="1") as process:
        idle = SocketClient(process)
        assert idle.send("/healthz").response().read() == b"fine"
        process.send_signal(signal.SIGTERM)
        process.wait_until_it_says("shutdown hook")
        assert not idle.hears_nothing()  # its end, while the process still has time


def test_the_drain_hook_may_close_what_would_never_end(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "60") as process:
        stream = ask(process, "/until-drained")
        assert stream.read(5) == b"open "
        process.send_signal(signal.SIGTERM)
        assert stream.read() == b"closed"
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


def test_what_does_not_finish_in_time_is_cancelled_and_told_to_try_again(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "0.1") as process:
        waiting = SocketClient(process).send("/for-ever")
        process.wait_until_it_says("waiting")
        process.send_signal(signal.SIGTERM)
        response = waiting.response()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert "cancelled" in process.output()


def test_what_is_told_that_its_time_is_over_has_a_moment_to_answer(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "0.1") as process:
        waiting = SocketClient(process).send("/until-aborted")
        process.wait_until_it_says("waiting")
        process.send_signal(signal.SIGTERM)
        assert waiting.response().status == 200
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


def test_a_half_sent_request_does_not_keep_the_others_from_ending_well(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        half = SocketClient(process)
        half.socket.sendall(HALF_A_REQUEST)
        stream = ask(process, "/until-drained")
        process.send_signal(signal.SIGTERM)
        assert stream.read() == b"open closed"
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0
        assert "shutdown hook" in process.output()


def test_the_last_bytes_of_a_large_answer_leave_before_the_process_does(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        response = ask(process, "/large")
        process.wait_until_it_says("large begins")
        process.send_signal(signal.SIGTERM)
        assert len(response.read()) == LARGE_BYTES
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


def test_an_idle_process_ends_at_once(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "3600") as process:
        process.send_signal(signal.SIGTERM)
        assert process.exit_code(seconds=ANSWER_SECONDS) == 0


# daphne's own command, patched by the application that it imports


def test_the_patched_command_ends_as_ours_does(tmp_path: Path) -> None:
    with running("daphne", tmp_path, PATCHED="1", MCP_DRAIN_TIMEOUT="0.1") as process:
        waiting = SocketClient(process).send("/for-ever")
        process.wait_until_it_says("waiting")
        half = SocketClient(process)
        half.socket.sendall(HALF_A_REQUEST)
        process.send_signal(signal.SIGTERM)
        assert (waiting.response().status, process.exit_code(seconds=ANSWER_SECONDS)) == (503, 0)
        assert process.output().index("drain hook") < process.output().index("shutdown hook")


@pytest.mark.parametrize("text", ["soon", "nan", "-1", "inf"])
def test_the_patched_command_says_what_is_wrong_with_its_environment(text: str) -> None:
    process = server("daphne", Path(os.devnull), PATCHED="1", MCP_SEND_TIMEOUT=text)
    done = subprocess.run(
        process.command,
        env=os.environ | process.environment,
        capture_output=True,
        text=True,
        timeout=START_BOUND,
        check=False,
    )
    assert done.returncode == 1
    sentence = f"The environment variable MCP_SEND_TIMEOUT is wrong: {text!r} is not a number of seconds.\n"
    assert done.stderr == sentence


def test_our_command_goes_by_its_arguments_whatever_the_environment_says(tmp_path: Path) -> None:
    with running(
        "mcp_sessions.daphne",
        tmp_path,
        "--send-timeout",
        "5",
        PATCHED="1",
        MCP_SEND_TIMEOUT="soon",
        MCP_DRAIN_TIMEOUT="",
    ) as process:
        assert ask(process, "/healthz").status == 200


def test_patching_leaves_somebody_elses_server_alone() -> None:
    program = (
        "from daphne.cli import CommandLineInterface as Command; Command.server_class = str; "
        "from mcp_sessions.startup import patch_daphne; patch_daphne(); assert Command.server_class is str"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=START_BOUND)


def test_a_patched_command_makes_its_server_without_itself() -> None:
    """From Python 3.14 on, a `partial` in a class is a method, and would be given the command."""
    program = (
        "from daphne.cli import CommandLineInterface as Command; "
        "from mcp_sessions.startup import patch_daphne; patch_daphne(); "
        "assert isinstance(vars(Command)['server_class'], staticmethod)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=START_BOUND)


def test_patching_starts_no_reactor_where_no_daphne_runs() -> None:
    program = (
        "import sys; from mcp_sessions.startup import patch_daphne; patch_daphne(); "
        "assert not {'twisted', 'daphne'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=START_BOUND)


# The same application under a server that speaks ASGI lifespan


def test_uvicorn_runs_both_hooks_through_lifespan(tmp_path: Path) -> None:
    with running("uvicorn", tmp_path, guarded=True) as process:
        assert ask(process, "/cancel-first").status == 503
        assert ask(process, "/raise-later").read() == b"chunk"
        process.send_signal(signal.SIGTERM)
        process.exit_code(seconds=ANSWER_SECONDS)
        assert process.output().index("drain hook") < process.output().index("shutdown hook")
        assert process.output().count("Traceback") == 1
