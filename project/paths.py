"""Where the demo keeps what it writes. Imports nothing that is not Python's own."""

import os
from pathlib import Path
from typing import Final

BASE: Final = Path(__file__).resolve().parent.parent
#: SQLite, Valkey's files and the session of `project.ask`. DEMO_DATA names another folder.
DATA: Final = Path(os.environ.get("DEMO_DATA") or BASE / "data")
