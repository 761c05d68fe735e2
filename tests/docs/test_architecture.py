"""docs/architecture.md names what exists, and every room."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs import markdown

TEXT = markdown.read("architecture.md")
NAMES = sorted(set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*):([\w.]+)`", TEXT)))


def test_the_document_has_names() -> None:
    assert len(NAMES) > 50


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[":".join(name) for name in NAMES])
def test_a_name_exists(module: str, name: str) -> None:
    reduce(getattr, name.split("."), import_module(f"mcp_sessions.{module}"))


def test_every_room_is_listed() -> None:
    package = Path(__file__).parents[2] / "mcp_sessions"
    rooms = {
        path.stem
        for path in package.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("_")
    }
    listed = set(re.findall(r"`([a-z_]+)/?`", TEXT[TEXT.index("## Rooms") : TEXT.index("## Words")]))
    assert rooms - {"migrations"} <= listed
