"""The table of settings as the code has it. `python -m tests.docs.settings_table` prints it for docs/settings.md."""

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any, Final

from mcp_sessions import conf
from mcp_sessions.conf import rules

COLUMNS: Final = ("Key", "Type", "Default", "Meaning")
_TYPES: Final = {
    "str": "text",
    "str | None": "text or `None`",
    "float": "seconds or `timedelta`",
    "int": "integer",
    "int | None": "integer or `None`",
    "bool": "`True` or `False`",
    "bool | None": "`True`, `False` or `None`",
    "Sequence[str]": "list of texts",
    "Mapping[str, str]": "dictionary of texts",
    "OnStoreDown": " ".join(f'`"{value}"`' for value in rules.ON_STORE_DOWN),
    "OnMiss": " ".join(f'`"{value}"`' for value in rules.ON_MISSES),
    "datetime | None": "`datetime` or `None`",
    "Response": " ".join(f'`"{value}"`' for value in rules.RESPONSES),
}
_FIELD: Final = re.compile(r"((?:^    #: .*\n)+)    (\w+): ([^=\n]+?)(?: = .*)?$", re.MULTILINE)


def rows() -> list[list[str]]:
    """One row for each setting, from the fields of `conf.Endpoint` and the comments above them."""
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(conf.Endpoint)
    }
    found = _FIELD.findall(inspect.getsource(conf.Endpoint))
    return [
        [f"`{name.upper()}`", _TYPES[kind], _default(name, defaults[name]), _meaning(comment)]
        for comment, name, kind in found
        if name.upper() in conf.KEYS
    ]


def _default(name: str, value: Any) -> str:
    if value is MISSING:
        return "required"
    if name == "namespace":
        return "the entry's key"
    return f"`{list(value) if isinstance(value, tuple) else value!r}`".replace("'", '"')


def _meaning(comment: str) -> str:
    return " ".join(line.strip().removeprefix("#: ") for line in comment.strip().splitlines())


def as_markdown() -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *rows()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(as_markdown())  # noqa: T201 - for a person at a terminal
