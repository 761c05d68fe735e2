"""Processes that the demo starts and ends."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

#: Longer than a server takes to drain, or a store to save.
STOP_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


@contextmanager
def child(command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that gets SIGTERM when the block is left, and SIGKILL when that does not end it.

    It has a process group of its own: Ctrl-C at the terminal reaches only us, and we choose the order of ends.
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
    """Ask Linux for SIGTERM should the parent be killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
