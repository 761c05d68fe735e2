"""What happens when a process starts. A separate process tunes the garbage collector: that cannot be undone cleanly."""

import os
import subprocess
import sys

from mcp_sessions import startup
from tests.support import ROOT

PROGRAM = """
import gc
from mcp_sessions.startup import THRESHOLDS, tune_garbage_collector
gc.freeze()
tune_garbage_collector()
assert gc.get_threshold() == THRESHOLDS, "somebody has frozen what there was"
gc.unfreeze()
tune_garbage_collector()
frozen = gc.get_freeze_count()
assert frozen > 0
assert gc.get_threshold() == THRESHOLDS == (20_000, 20, 100)
later = [[] for _ in range(10_000)]
tune_garbage_collector()
assert gc.get_freeze_count() <= frozen
"""


SETUP = """
import sys
import django
django.setup()
assert "mcp_sessions.checks.servers" in sys.modules and "mcp_sessions.admin.filters" in sys.modules
loaded = {"mcp", "mcp_types", "pydantic"} & set(sys.modules)
assert not loaded, loaded
"""


def test_tuning_freezes_what_is_imported_and_a_second_call_does_nothing() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)


def test_the_former_name_of_patch_daphne_still_works() -> None:
    assert startup.mend_daphne is startup.patch_daphne


def test_a_process_that_serves_nothing_does_not_import_the_sdk() -> None:
    subprocess.run(
        [sys.executable, "-c", SETUP],
        check=True,
        timeout=60,
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )


def test_an_endpoint_imports_no_authenticator_that_it_does_not_name() -> None:
    code = """
import sys
import django
django.setup()
from mcp_sessions.routing import mcp_urlpatterns
mcp_urlpatterns()
loaded = {name for name in sys.modules if name.startswith(("rest_framework", "mcp_sessions.authentication."))}
extras = {"gate", "personal", "jwks", "keys", "login", "proxy", "rest_framework", "bearer"}
assert not loaded & {"rest_framework", *(f"mcp_sessions.authentication.{name}" for name in extras)}, loaded
"""
    environment = os.environ | {"DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "project.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
