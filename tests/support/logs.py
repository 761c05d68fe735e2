"""What no server may log unless its test expects it: tracebacks, and asyncio's warnings of lost tasks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: A traceback, down to the line that names the exception.
_TRACEBACK: Final = r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*.*"
#: A traceback with those of its causes, or a line of asyncio's.
FAULT: Final = re.compile(
    rf"^.*{_TRACEBACK}(?:\n\n(?:The above|During handling).*\n\n{_TRACEBACK})*$"
    r"|^.*(?:was never awaited|was never retrieved|was destroyed but it is pending).*$",
    re.MULTILINE,
)

#: The logs of all servers so far, with the number of bytes that were read.
_looked_at: dict[Path, int] = {}


def watch(log: Path) -> None:
    """Check what is written to this file from now on."""
    _looked_at.setdefault(log, log.stat().st_size if log.exists() else 0)


def new_faults(expected: Sequence[str]) -> list[str]:
    """What servers logged since the last look and should not have: what contains none of the expected words."""
    faults = [fault for log in tuple(_looked_at) for fault in FAULT.findall(_news(log))]
    return [fault for fault in faults if not any(words in fault for words in expected)]


def _news(log: Path) -> str:
    """What was written to a log since the last look."""
    if not log.exists():
        del _looked_at[log]
        return ""
    with log.open("rb") as file:
        file.seek(_looked_at[log])
        news = file.read()
    _looked_at[log] += len(news)
    return news.decode(errors="replace")
