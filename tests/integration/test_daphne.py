"""daphne as it is, daphne behind our guard, and our daphne: three bugs, and how a process ends.

Real processes, and sockets by hand where a client library would hide what is on the wire. The tests named "plain" show
the bug; if one of them fails, daphne has mended it, and ours can go.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from tests.misbehaving import LARGE_BYTES
from tests.processes import ROOT, START_BOUND, Process, started
from tests.servers import free_port, wait_until

#: Seconds within which an answer comes that comes at all. daphne looks after its applications once a second.
ANSWER_SECONDS = 10.0
#: Seconds after which a client that got nothing is called hanging.
SILENCE_SECONDS = 2.5

HALF_A_REQUEST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"

#: Three servers for all tests here, whichever of pytest's processes runs them.
pytestmark = pytest.mark.xdist_group("daphne")


def server(
    module: str, directory: Path, *arguments: str, guarded: bool = False, **environment: str
) -> Process:
    """A server of the misbehaving application, not started yet."""
    port = free_port()
    listen = ("--host", "127.0.0.1", "--port") if module == "uvicorn" else ("-b", "127.0.0.1", "-p")
    command = (sys.executable, "-m", module, *listen, str(port), *arguments, "tests.misbehaving:application")
    environment = {"GUARDED": "1" if guarded else "0", "PYTHONUNBUFFERED": "1", **environment}
    return Process(
        name=module, command=command, environment=environment, port=port, log=directory / f"{module}.log"
    )


@contextmanager
def running(
    module: str, directory: Path, *arguments: str, guarded: bool = False, **environment: str
) -> Iterator[Process]:
    process = server(module, directory, *arguments, guarded=guarded, **environment)
    with started([process]):
        yield process


class Client:
    """One connection by hand, open until the test ends."""

    opened: ClassVar[ExitStack] = ExitStack()

    def __init__(self, process: Process) -> None:
        self.socket = socket.create_connection(process.address, timeout=ANSWER_SECONDS)
        self.opened.enter_context(self.socket)

    def send(self, path: str, *headers: str) -> "Client":
        self.socket.sendall(
            "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
        )
        return self

    def response(self) -> http.client.HTTPResponse:
        """The head of the next response; its body can be read."""
        response = self.opened.enter_context(http.client.HTTPResponse(self.socket))
        response.begin()
        return response

    def hears_nothing(self) -> bool:
        """Whether not one byte comes for a while."""
        self.socket.settimeout(SILENCE_SECONDS)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        return False


def ask(process: Process, path: str) -> http.client.HTTPResponse:
    return Client(process).send(path).response()


def told_to_stop(process: Process) -> None:
    os.kill(process.pid, signal.SIGTERM)


def exit_code(process: Process) -> int:
    assert process._popen is not None
    return process._popen.wait(ANSWER_SECONDS)


def until_it_says(process: Process, word: str) -> None:
    wait_until(lambda: word in process.output(), seconds=ANSWER_SECONDS, what=f"{word!r} in the log")


def refuses_connections(process: Process) -> bool:
    try:
        socket.create_connection(process.address, timeout=ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    with Client.opened:
        yield


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
    assert Client(plain).send("/cancel-first").hears_nothing()


def test_plain_daphne_lets_the_client_of_a_silent_application_hang(plain: Process) -> None:
    assert Client(plain).send("/say-nothing").hears_nothing()


def test_plain_daphne_answers_no_exception_any_more_after_one_within_a_response(tmp_path: Path) -> None:
    with running("daphne", tmp_path) as process:
        assert ask(process, "/raise-first").status == 500
        broken = ask(process, "/raise-later")
        assert broken.read(5) == b"chunk"
        until_it_says(process, "after the response has started")
        assert Client(process).send("/raise-first").hears_nothing()


def test_plain_daphne_cancels_nothing_when_a_request_is_half_sent(tmp_path: Path) -> None:
    with running("daphne", tmp_path) as process:
        half = Client(process)
        half.socket.sendall(HALF_A_REQUEST)
        waiting = Client(process).send("/for-ever")
        until_it_says(process, "waiting")
        told_to_stop(process)
        assert waiting.socket.recv(1) == b""
        exit_code(process)
        assert "cancelled" not in process.output()


# What the guard makes of it, under the plain daphne command


def test_the_guard_answers_an_exception_with_a_json_rpc_error(guarded: Process) -> None:
    response = ask(guarded, "/raise-first")
    assert response.status == 500
    assert json.load(response)["error"]["code"] == -32603
    until_it_says(guarded, "RuntimeError: before the response")


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
        waiting = Client(process).send("/for-ever")
        until_it_says(process, "waiting")
        told_to_stop(process)
        assert waiting.response().status == 503
        assert exit_code(process) == 0


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
    client = Client(ours)
    for _ in range(3):
        assert client.send("/healthz").response().read() == b"fine"


def test_our_daphne_believes_nobody_about_its_root_path(plain: Process, ours: Process) -> None:
    forged = "Daphne-Root-Path: /forged"
    assert Client(plain).send("/root-path", forged).response().read() == b"/forged"
    assert Client(ours).send("/root-path", forged).response().read() == b""


def test_our_daphne_leaves_every_body_to_the_application(plain: Process, ours: Process) -> None:
    """Twisted parses forms, for nobody, and refuses those that it cannot parse."""
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
        in_flight = Client(process).send("/until-released")
        open_already = Client(process)
        assert open_already.send("/healthz").response().read() == b"fine"
        until_it_says(process, "waiting")
        told_to_stop(process)
        wait_until(lambda: refuses_connections(process), seconds=ANSWER_SECONDS, what="the port to close")
        released = open_already.send("/release").response()
        assert released.read() == b"fine"
        assert released.headers["Connection"] == "close"
        finished = in_flight.response()
        assert (finished.status, finished.read()) == (200, b"fine")
        assert exit_code(process) == 0
        assert process.output().index("drain hook") < process.output().index("shutdown hook")


def test_the_drain_hook_may_close_what_would_never_end(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "60") as process:
        stream = ask(process, "/until-drained")
        assert stream.read(5) == b"open "
        told_to_stop(process)
        assert stream.read() == b"closed"
        assert exit_code(process) == 0


def test_what_does_not_finish_in_time_is_cancelled_and_told_to_try_again(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "0.1") as process:
        waiting = Client(process).send("/for-ever")
        until_it_says(process, "waiting")
        told_to_stop(process)
        response = waiting.response()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert exit_code(process) == 0
        assert "cancelled" in process.output()


def test_a_half_sent_request_does_not_keep_the_others_from_ending_well(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        half = Client(process)
        half.socket.sendall(HALF_A_REQUEST)
        stream = ask(process, "/until-drained")
        told_to_stop(process)
        assert stream.read() == b"open closed"
        assert exit_code(process) == 0
        assert "shutdown hook" in process.output()


def test_the_last_bytes_of_a_large_answer_leave_before_the_process_does(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path) as process:
        response = ask(process, "/large")
        until_it_says(process, "large begins")
        told_to_stop(process)
        assert len(response.read()) == LARGE_BYTES
        assert exit_code(process) == 0


def test_an_idle_process_ends_at_once(tmp_path: Path) -> None:
    with running("mcp_sessions.daphne", tmp_path, "--drain-timeout", "3600") as process:
        told_to_stop(process)
        assert exit_code(process) == 0


# daphne's own command, patched by the application that it imports


def test_the_patched_command_ends_as_ours_does(tmp_path: Path) -> None:
    with running("daphne", tmp_path, PATCHED="1", MCP_DRAIN_TIMEOUT="0.1") as process:
        waiting = Client(process).send("/for-ever")
        until_it_says(process, "waiting")
        half = Client(process)
        half.socket.sendall(HALF_A_REQUEST)
        told_to_stop(process)
        assert (waiting.response().status, exit_code(process)) == (503, 0)
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


def test_patching_leaves_a_server_of_somebody_elses() -> None:
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
        told_to_stop(process)
        exit_code(process)
        assert process.output().index("drain hook") < process.output().index("shutdown hook")
        assert process.output().count("Traceback") == 1
