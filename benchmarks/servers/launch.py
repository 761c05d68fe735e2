"""Serve one contestant: `python -m benchmarks.servers.launch {daphne,patched,uvicorn} PORT MODULE:APPLICATION`.

Uses the standard library and the server only, because it runs in every contestant's own environment. Every contestant
gets the same garbage-collector settings, applied once everything is imported.
"""

import ctypes
import gc
import signal
import sys
from importlib import import_module
from typing import Any

#: Objects before a collection of each generation. The defaults pause a daphne process for up to 130 ms.
GC_THRESHOLDS = (20_000, 20, 100)


def main(server: str, port: str, target: str) -> None:
    """Import the application, configure the garbage collector, and serve on 127.0.0.1 until told to stop."""
    signal.signal(signal.SIGUSR1, give_back)
    serve = {"daphne": serve_daphne, "patched": serve_patched_daphne, "uvicorn": serve_uvicorn}[server]
    serve(int(port), target)


def serve_daphne(port: int, target: str) -> None:
    """Run daphne's own command line."""
    from daphne.cli import CommandLineInterface

    run_daphne(CommandLineInterface, port, target)


def serve_patched_daphne(port: int, target: str) -> None:
    """Run this app's daphne, which drains and waits for slow readers."""
    from mcp_sessions.daphne import CommandLineInterface

    run_daphne(CommandLineInterface, port, target)


def run_daphne(command: Any, port: int, target: str) -> None:
    """Run the command line without an access log, on an application that is imported where it imports it."""
    imported(target)
    settle_gc()
    command().run(["-v", "0", "-b", "127.0.0.1", "-p", str(port), target])


def serve_uvicorn(port: int, target: str) -> None:
    """Run uvicorn with the fastest loop and parser that are installed, without an access log."""
    import uvicorn

    application = imported(target)
    settle_gc()
    uvicorn.run(application, host="127.0.0.1", port=port, access_log=False, log_level="warning")


def imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def settle_gc() -> None:
    """Exempt what is imported from collection, and collect more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def give_back(*_: object) -> None:
    """On SIGUSR1: collect garbage and return free memory, so that resident memory shows what is kept."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
