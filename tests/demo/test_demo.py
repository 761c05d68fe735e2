"""What the demo must not do whoever runs it."""

import pytest

from project import run


@pytest.mark.protocol("H4")
def test_the_demo_listens_on_loopback_only() -> None:
    command = run._command(8000)
    assert command[command.index("-b") + 1] == "127.0.0.1"
