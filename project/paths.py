"""Where the demo keeps its files. Imports only the standard library."""

import os
from pathlib import Path
from typing import Final

BASE: Final = Path(__file__).resolve().parent.parent
#: For SQLite, Valkey and the session of `project.ask`. DEMO_DATA names another folder.
DATA: Final = Path(os.environ.get("DEMO_DATA") or BASE / "data")
