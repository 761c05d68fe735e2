"""What `asgi.py` calls at its end. A separate process tunes the garbage collector: that cannot be undone cleanly."""

import subprocess
import sys

from mcp_sessions import startup

PROGRAM = """
import gc
from mcp_sessions.startup import THRESHOLDS, tune_garbage_collector
tune_garbage_collector()
frozen = gc.get_freeze_count()
assert frozen > 0
assert gc.get_threshold() == THRESHOLDS == (20_000, 20, 100)
later = [[] for _ in range(10_000)]
tune_garbage_collector()
assert gc.get_freeze_count() <= frozen
"""


def test_tuning_freezes_what_is_imported_and_a_second_call_does_nothing() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)


def test_the_former_name_of_patch_daphne_still_works() -> None:
    assert startup.mend_daphne is startup.patch_daphne
