"""Whoever makes an MCPServer in a Django project with this app, the root logger stays as LOGGING has it."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_sessions.sdk import root_logger
from tests.support import ROOT

#: A project whose LOGGING says nothing of the root logger, as a new one's.
PROJECT = """
import logging, sys
from importlib import import_module

if {early}:
    import_module("mcp.server")

import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "mcp_sessions"])
django.setup()
assert {early} or "mcp" not in sys.modules, "a process that serves nothing starts without the SDK"

from mcp.server import MCPServer

MCPServer("shop", log_level="DEBUG")
print(logging.getLogger().handlers, logging.getLevelName(logging.getLogger().level))
"""


@pytest.mark.parametrize("early", [False, True], ids=["the SDK comes later", "the SDK came before Django"])
def test_a_server_of_the_sdk_adds_no_handler_to_the_root_logger(early: bool) -> None:
    command = [sys.executable, "-c", PROJECT.format(early=early)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[] WARNING\n", "")


@pytest.fixture
def finders() -> Iterator[list[object]]:
    """What finds modules, without what the app has put there; as before after the test."""
    before = list(sys.meta_path)
    sys.meta_path[:] = [each for each in before if not isinstance(each, root_logger._Finder)]
    yield sys.meta_path  # type: ignore[misc] # what is in there is not all of one type
    sys.meta_path[:] = before
    for name in [each for each in sys.modules if "imported_by_a_test" in each]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "left"),
    [("def configure_logging(level): return level", "None"), ("configure = 1", "AttributeError")],
)
def test_the_module_is_changed_when_it_is_imported_and_nothing_is_left_that_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finders: list[object], source: str, left: str
) -> None:
    name = f"imported_by_a_test_{left.lower()}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / f"beside_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(root_logger, "_MODULE", name)
    before = list(finders)
    for _ in range(2):
        root_logger.leave_to_django()
    assert len(finders) == len(before) + 1
    assert finders[1:] == before, "it comes before those that would find it"
    beside = importlib.import_module(f"beside_{name}")
    assert len(finders) == len(before) + 1
    module = importlib.import_module(name)
    assert finders == before
    if left == "None":
        assert module.configure_logging("DEBUG", handler=1) is None
        assert beside.configure_logging("DEBUG") == "DEBUG"
    else:
        assert not hasattr(module, "configure_logging")
        root_logger.leave_to_django()
        assert finders == before, "it is there already"


@pytest.mark.parametrize("there", [False, True], ids=["no module", "a folder"])
def test_what_has_no_code_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finders: list[object], there: bool
) -> None:
    name = f"imported_by_a_test_{there}".lower()
    if there:
        (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(root_logger, "_MODULE", name)
    before = list(finders)
    root_logger.leave_to_django()
    if there:
        assert importlib.import_module(name).__name__ == name
    else:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
    assert finders == before
