"""Processes that the demo starts and stops."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Final

#: Longer than a server needs to drain, or a store to save.
STOP_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


@contextmanager
def child(command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that gets SIGTERM at the end of the block, and SIGKILL if that does not stop it."""
    process = start(command, pass_fds=pass_fds)
    try:
        yield process
    finally:
        process.terminate()
        wait_for_end(process)


def start(
    command: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a process, from the main thread: it ends with the thread that starts it.

    It has its own process group: Ctrl-C at the terminal reaches only this process, which stops its children in order.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def wait_for_end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that was told to end. It gets SIGKILL if it does not."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    """Have Linux send SIGTERM if the parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
