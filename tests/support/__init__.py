"""What several suites share: how servers are started, asked and ended, and the clients that ask them."""

from pathlib import Path
from typing import Final

#: The repository.
ROOT: Final = Path(__file__).resolve().parents[2]
