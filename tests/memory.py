"""How much memory a process needed at its worst, as Linux counts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Growth:
    """Bytes of resident memory that a process had at its peak beyond what it had before; after the block."""

    peak: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Watch a process without sampling: the kernel keeps the peak, and is told to begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _status(pid, "VmHWM")
    growth = Growth()
    yield growth
    growth.peak = _status(pid, "VmHWM") - before


def _status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kibibytes = next(line for line in lines if line.startswith(f"{field}:")).split()[1]
    return int(kibibytes) * 1024
