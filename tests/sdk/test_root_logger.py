"""Whoever makes an MCPServer in a Django project with this app, the root logger stays as LOGGING has it."""

import subprocess
import sys

import pytest

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
