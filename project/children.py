"""Processes that the demo starts and stops."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

#: Longer than a server needs to drain, or a store to save.
STOP_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


@contextmanager
def child(command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that gets SIGTERM at the end of the block, and SIGKILL if that does not stop it.

    It has its own process group: Ctrl-C at the terminal reaches only this process, which stops its children in order.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    try:
        yield process
    finally:
        _end(process)


def _end_with_parent() -> None:
    """Have Linux send SIGTERM if the parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
