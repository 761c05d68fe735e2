"""`make run`: what newcomers try first."""

import json
import re
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from project import ask
from tests.install.running import Demo, children_of, demo
from tests.support import ROOT
from tests.support.processes import free_port

BOOTSTRAP = ROOT / "tools" / "bootstrap.py"


def test_a_client_goes_on_with_its_session_after_the_demo_was_restarted(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        first.wait_until_it_serves().ask("remember", "note=likes sea stories")
        assert first.press_ctrl_c() == 0, first.output

    with demo(tmp_path, port=first.port) as second:
        answer = second.wait_until_it_serves().ask("recall")

    assert answer == "likes sea stories\n"


def test_the_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        group = running.wait_until_it_serves()
        children = children_of(group.process.pid)
        assert len(children) == 2, "a web server and a Valkey"
        assert running.press_ctrl_c() == 0

    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_a_second_demo_joins_the_valkey_of_the_first(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        first.wait_until_it_serves().ask("remember", "note=likes sea stories")
        with demo(tmp_path) as second:
            second.wait_until_it_serves()
            kept = tmp_path / "client.json"
            kept.write_text(kept.read_text().replace(str(first.port), str(second.port)))

            assert second.ask("recall") == "likes sea stories\n"
            assert "which belongs to another `make run`" in second.output
        assert "another `make run`" not in first.output


@pytest.fixture(scope="module")
def memory_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo without Redis."""
    with demo(tmp_path_factory.mktemp("memory"), MEMORY="1") as running:
        yield running.wait_until_it_serves()


def test_the_demo_says_where_the_endpoint_and_the_admin_are_and_how_to_log_in(memory_demo: Demo) -> None:
    said = memory_demo.output

    assert f"http://127.0.0.1:{memory_demo.port}/mcp\n" in said
    assert re.search(rf"http://127\.0\.0\.1:{memory_demo.port}/admin/ +admin / \S+", said)
    assert "python -m project.ask" in said


def test_without_redis_the_demo_says_that_sessions_end_with_it(memory_demo: Demo) -> None:
    memory_demo.ask("remember", "note=likes sea stories")

    assert memory_demo.ask("recall") == "likes sea stories\n"
    assert "are in this process's memory, and end with it" in memory_demo.output
    assert not (memory_demo.data / "valkey").exists()


@pytest.mark.protocol("H4")
@pytest.mark.skipif(sys.platform != "linux", reason="has one loopback address")
def test_the_demo_listens_on_loopback_only(memory_demo: Demo) -> None:
    """A server on all addresses would answer on every loopback address."""
    socket.create_connection(("127.0.0.1", memory_demo.port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", memory_demo.port), timeout=5)


def test_a_long_tool_reports_progress_while_it_runs(memory_demo: Demo) -> None:
    said = memory_demo.ask("take_inventory", "seconds_per_book=0")

    assert "15/15 Wuthering Heights: 2" in said
    assert "29 copies of 15 books." in said


def test_a_sync_tool_reads_the_database_and_writes_the_sessions_state(memory_demo: Demo) -> None:
    assert memory_demo.ask("copies_on_shelf", "title=Emma") == "3\n"
    assert "Last looked at: Emma" in memory_demo.ask("recall")


def test_an_async_tool_searches_the_database(memory_demo: Demo) -> None:
    assert (
        memory_demo.ask("search_books", "text=shelley", "limit=1") == "Frankenstein by Mary Shelley (1818)\n"
    )


def test_the_list_of_tools_says_which_arguments_they_take(memory_demo: Demo) -> None:
    listed = memory_demo.ask().splitlines()
    assert (
        listed[listed.index("search_books text=... [limit=...]") + 1].strip()
        == "Find books by title or author."
    )
    assert "recall" in listed


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["rember"], "There is no tool rember in this session. There are: search_books,"),
        (["remember", "text=tea"], "remember has no argument text.\nUsage: remember note=..."),
        (["remember"], "remember needs note.\nUsage: remember note=..."),
        (["remember", "tea"], "An argument is written name=value, not 'tea'."),
        (["search_books", "text=1984", "limit=few"], "limit must be of the type integer, not 'few'."),
    ],
)
def test_a_wrong_argument_is_explained_in_a_sentence(
    memory_demo: Demo, words: list[str], problem: str
) -> None:
    assert problem in memory_demo.ask(*words, status=1)


def test_a_string_that_looks_like_json_stays_a_string(memory_demo: Demo) -> None:
    assert "Noted." in memory_demo.ask("remember", "note=1984")


def test_a_book_that_is_not_there_is_a_tools_error_in_a_sentence(memory_demo: Demo) -> None:
    assert "The library has no book with the title 'Ulysses'." in memory_demo.ask(
        "copies_on_shelf", "title=Ulysses"
    )


def test_the_stock_can_be_changed_only_while_the_stock_room_is_open(memory_demo: Demo) -> None:
    listed = "\nset_copies "
    assert listed not in memory_demo.ask()
    memory_demo.ask("open_stock_room")
    assert listed in memory_demo.ask()
    assert "now has 7 copies" in memory_demo.ask("set_copies", "title=Dracula", "copies=7")
    memory_demo.ask("close_stock_room")
    assert listed not in memory_demo.ask()
    assert memory_demo.ask("copies_on_shelf", "title=Dracula") == "7\n"


def test_the_library_has_resources_and_a_prompt(
    memory_demo: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ask, "KEPT", tmp_path / "client.json")
    client = ask.Client(f"http://127.0.0.1:{memory_demo.port}/mcp")

    (read,) = client.call("resources/read", {"uri": "library://authors/George%20Eliot"})["contents"]
    assert read["text"] == "Silas Marner by George Eliot (1861)\nMiddlemarch by George Eliot (1871)"
    (asked,) = client.call("prompts/get", {"name": "recommend", "arguments": {"mood": "storms"}})["messages"]
    assert "in the mood for: storms" in asked["content"]["text"]


def test_a_client_whose_session_has_ended_gets_a_new_one(memory_demo: Demo) -> None:
    (memory_demo.data / "client.json").write_text(
        json.dumps({f"http://127.0.0.1:{memory_demo.port}/mcp": "gone"})
    )

    assert memory_demo.ask("recall") == "The session has ended; here is a new one.\n"


def test_a_taken_port_is_refused_in_a_sentence(memory_demo: Demo, tmp_path: Path) -> None:
    port = memory_demo.port
    with demo(tmp_path, port=port, MEMORY="1") as second:
        assert second.process.wait(30) == 1
        assert second.output == f"Port {port} is taken. Choose another one: PORT={port + 1}\n"


def test_a_redis_that_does_not_answer_is_refused_in_a_sentence(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}/0"
    with demo(tmp_path, REDIS_URL=f"redis://somebody:secret@{address}") as running:
        assert running.process.wait(30) == 1
        assert f"redis://{address}, cannot be used: " in running.output
        assert "Connection refused" in running.output
        assert "secret" not in running.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REDIS_URL", "localhost:6379", "a URL of Redis looks like redis://127.0.0.1:6379/0."),
        ("DATABASE_URL", "shop.sqlite3", "DATABASE_URL is not the URL of a database: "),
        (
            "DATABASE_URL",
            "sqlite:////no/such/folder/db.sqlite3",
            "The database cannot be used: unable to open",
        ),
    ],
)
def test_a_wrong_url_is_refused_in_a_sentence(tmp_path: Path, variable: str, value: str, said: str) -> None:
    variables: dict[str, Any] = {"REDIS_URL": "", variable: value}
    with demo(tmp_path, **variables) as running:
        assert running.process.wait(60) == 1
        assert said in running.output
        assert "Traceback" not in running.output


@pytest.mark.parametrize("port", ["abc", "99999", "0"])
def test_an_impossible_port_is_refused_in_a_sentence(tmp_path: Path, port: str) -> None:
    with demo(tmp_path, PORT=port, MEMORY="1") as running:
        assert running.process.wait(30) == 1
        assert running.output == f"PORT must be a number from 1 to 65535, not {port!r}.\n"


def test_a_server_that_cannot_be_imported_is_refused_with_the_setting(tmp_path: Path) -> None:
    with demo(tmp_path, MCP_SERVER="project.mcp.sever", MEMORY="1") as running:
        assert running.process.wait(30) == 1
        assert "MCP_SESSIONS['default']['SERVER']: 'project.mcp.sever'" in running.output


def test_an_old_python_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr("shutil.which", lambda _: None)

    with pytest.raises(SystemExit, match=r"This project needs Python 3\.11 or newer; .* is Python 3\.9\."):
        runpy.run_path(str(BOOTSTRAP))["main"]("run")


def test_a_python_without_venv_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)

    with pytest.raises(SystemExit, match="apt install python3-venv"):
        runpy.run_path(str(BOOTSTRAP))["_make_venv"]()


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """What `make install` runs, with a virtual environment that has everything."""
    main: Callable[[str], None] = runpy.run_path(str(BOOTSTRAP))["main"]
    monkeypatch.setitem(main.__globals__, "VENV", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    return main


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The constraints of every installation so far, line by line; nothing is installed."""
    found: list[list[str]] = []

    def install(command: list[str], **_: Any) -> int:
        if "--constraint" not in command:
            return 0
        constraints = ROOT / command[command.index("--constraint") + 1]
        found.append(constraints.read_text().splitlines())
        return 0

    monkeypatch.setattr("subprocess.call", install)
    monkeypatch.delenv("DJANGO", raising=False)
    return found


def test_what_is_installed_already_is_not_installed_again(
    bootstrap: Callable[[str], None], installed: list[list[str]]
) -> None:
    bootstrap("run")
    bootstrap("run")

    assert len(installed) == 1


def test_an_environment_of_which_parts_are_missing_is_made_anew(
    bootstrap: Callable[[str], None], installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    names: dict[str, Any] = bootstrap.__globals__
    monkeypatch.setitem(names, "_make_venv", lambda: made.append("anew"))
    bootstrap("run")
    assert (made, len(installed)) == ([], 1)

    names["MODULES"]["run"] += " no_such_module"
    monkeypatch.setitem(names, "_python", lambda: sys.executable)
    monkeypatch.setattr("subprocess.call", _call_only_python(installed))
    bootstrap("run")

    assert (made, len(installed)) == (["anew"], 2)


def _call_only_python(installed: list[list[str]]) -> Callable[..., int]:
    """As `installed`, but the look at the modules is a real one."""
    call = subprocess.run

    def either(command: list[str], **options: Any) -> int:
        if "--constraint" not in command:
            return int(call(command, check=False, **options).returncode)
        installed.append([])
        return 0

    return either


def test_the_environment_chooses_the_release_of_django(
    bootstrap: Callable[[str], None], installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap("dev")
    monkeypatch.setenv("DJANGO", "6.1")
    bootstrap("dev")

    locked, chosen = map(set, installed)
    assert chosen - locked == {"Django==6.1.*"}
    assert [line.split("==")[0] for line in locked - chosen] == ["Django"]
