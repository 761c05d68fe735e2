"""Runs the demo as people do, and asks it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support import ROOT
from tests.support.processes import free_port, wait_until


class Demo:
    """`python -m project.run`, or what else runs the demo, on a free port and with a data folder of its own."""

    def __init__(
        self, data: Path, *, port: int | None = None, module: str = "project.run", **variables: str
    ) -> None:
        self.port = port or free_port()
        self.data = data
        self.environment = {
            "PATH": os.environ["PATH"],
            "DEMO_DATA": str(data),
            "PORT": str(self.port),
            **variables,
        }
        self.log = data / f"demo-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_until_it_says(self, word: str) -> Self:
        """Wait for what it says when it serves."""

        def serves() -> bool:
            assert self.process.poll() is None, self.output
            return word in self.output

        wait_until(serves, seconds=60, what=f"the demo to say {word!r}")
        return self

    def wait_until_it_serves(self) -> Self:
        return self.wait_until_it_says("Talk to it")

    def press_ctrl_c(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def ask(self, *words: str, status: int = 0) -> str:
        asked = subprocess.run(
            [sys.executable, "-m", "project.ask", "--url", f"http://127.0.0.1:{self.port}/mcp", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert asked.returncode == status, asked.stderr + self.output
        return asked.stdout + asked.stderr


@contextmanager
def demo(
    data: Path, *, port: int | None = None, module: str = "project.run", **variables: str
) -> Iterator[Demo]:
    """A demo that has ended when the block is left."""
    running = Demo(data, port=port, module=module, **variables)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.press_ctrl_c()


def children_of(pid: int) -> list[int]:
    """The ids of the processes that a process has started and that still run."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
