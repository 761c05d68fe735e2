"""The Inspector at a shell. Each command is a program of its own, which opens a session and calls one tool."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.clients.known import INSPECTOR
from tests.support.programs import node, npm_packages

#: Seconds that one command may take.
BOUND: Final = 60


def inspect(url: str, home: Path, tool: str, **arguments: str) -> dict[str, Any]:
    """The result of a tool that one command calls. Its files go to `home`.

    A command whose tool reports an error fails, after it has printed that result.
    Raises: AssertionError when it fails without one.
    """
    launcher = npm_packages() / INSPECTOR / "clients" / "launcher" / "build" / "index.js"
    call = ["--method", "tools/call", "--tool-name", tool]
    for name, value in arguments.items():
        call += ["--tool-arg", f"{name}={value}"]
    done = subprocess.run(
        [node(), str(launcher), "--cli", url, "--transport", "http", *call],
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode != 0) == bool(said.get("isError")), done.stderr
    return said
