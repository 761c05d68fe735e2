"""`python -m project.cluster`: nine processes for one person to kill, until Ctrl-C."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from project.cluster.calls import CALLS_PER_SECOND, Caller
from project.cluster.nodes import join, make_nodes, urls_of
from project.cluster.parts import AWAY_SECONDS, Part, look_after, running, say
from project.cluster.proxy import make_proxy
from project.run import CannotStart, port_from_environment, prepare_database, server_command, wait_until_ready
from project.valkey import NoServer, free_port

PROCESSES: Final = ("A", "B", "C")
#: Seconds between two looks at everything.
PACE: Final = 0.02


def main() -> int:
    """Run until a signal arrives, and return the exit status."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        with tempfile.TemporaryDirectory(prefix="mcp-cluster-") as folder:
            _run(Path(folder), stop)
    except (CannotStart, NoServer) as problem:
        print(problem, file=sys.stderr)
        return 1
    print("Stopped: everything that was started here has ended.")
    return 0


def _run(folder: Path, stop: threading.Event) -> None:
    port = port_from_environment()
    nodes = make_nodes(folder)
    os.environ.setdefault("DJANGO_DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    os.environ["REDIS_URL"] = urls_of(nodes)
    processes = [_process(name, folder) for name in PROCESSES]
    proxy = make_proxy(port, processes, folder)
    with running(nodes):
        join(nodes, stop)
        login = prepare_database()
        with running(processes), running([proxy]):
            _wait_until_all_are_ready([*processes, proxy], stop)
            if not stop.is_set():
                print(_banner(port, [*processes, proxy, *nodes], login, folder), flush=True)
            _call(port, [*processes, proxy, *nodes], stop)
            print("\nStopping ...", flush=True)


def _process(name: str, folder: Path) -> Part:
    port = free_port()
    return Part(
        name=name,
        what="a process of the service (daphne)",
        port=port,
        command=server_command(port),
        log=folder / f"{name}.log",
    )


def _wait_until_all_are_ready(parts: Sequence[Part], stop: threading.Event) -> None:
    for part in parts:
        try:
            wait_until_ready(part.process, part.port, stop)
        except CannotStart as problem:
            raise CannotStart(f"{part.name}: {problem}\n{part.log.read_text(errors='replace')}") from problem


def _call(port: int, parts: Sequence[Part], stop: threading.Event) -> None:
    names = {part.address: part.name for part in parts}
    with closing(Caller(port, names, say)) as caller:
        while not stop.wait(PACE):
            caller.call_if_due()
            look_after(parts, say)


def _banner(port: int, parts: Sequence[Part], login: str, folder: Path) -> str:
    rows = "\n".join(f"    {part.name:9} {part.what:35} kill -9 {part.process.pid}" for part in parts)
    return f"""
  MCP endpoint   http://127.0.0.1:{port}/mcp
  Admin          http://127.0.0.1:{port}/admin/   {login}
  Logs           {folder}

  Kill anything, from another terminal. What has ended is started again after {AWAY_SECONDS:.0f} seconds.

{rows}

  kill -9 ends at once, kill lets calls finish first, kill -STOP hangs and kill -CONT goes on. Below, a client makes
  {CALLS_PER_SECOND} calls a second through nginx, in sessions on all primaries. Each letter says who answered.
  Ctrl-C ends everything.
"""


if __name__ == "__main__":
    sys.exit(main())
