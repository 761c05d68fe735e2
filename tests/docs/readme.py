"""The project that the README tells its reader to make: the commands and the code, to the letter."""

import re
import shlex
from pathlib import Path
from typing import Final

from tests.docs import markdown

TEXT: Final = markdown.read("README.md")
#: Where Redis is according to the README.
REDIS_URL: Final = "redis://127.0.0.1:6379/0"


def commands() -> list[list[str]]:
    """The commands of the section about one's own project, in order."""
    section = markdown.section(TEXT, "Add it to your project")
    return [shlex.split(line) for line in re.findall(r"^\$ (.+)$", section, re.MULTILINE)]


def write_code(directory: Path, redis_url: str) -> None:
    """Write the code into the project that `startproject` made there, with another address of Redis.

    Each block goes where its title says: the settings to the end of the file that is there, others in its place.
    """
    for block in markdown.blocks(TEXT, "python"):
        path = directory / block.title
        before = path.read_text() if path.name == "settings.py" else ""
        path.write_text(before + block.code.replace(REDIS_URL, redis_url))
