"""The Lua scripts, as files of this package: each atomic act is one, put behind the heads that it uses."""

import hashlib
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("mcp_sessions.store") / "lua"


class Script:
    """A script that Redis runs as one act. `repeatable`: running it twice does no harm, if a connection breaks.

    `takes_many`: its keys and arguments may be those of several calls, one after the other; it replies with a list.
    """

    __slots__ = ("name", "reads_record", "repeatable", "sha", "takes_many", "text")

    def __init__(self, name: str, *heads: str, repeatable: bool = False, takes_many: bool = False) -> None:
        parts = [(_FOLDER / f"{part}.lua").read_text(encoding="ascii") for part in (*heads, name)]
        self.name = name
        self.text = "\n".join(parts)
        self.sha = hashlib.sha1(self.text.encode("ascii"), usedforsecurity=False).hexdigest()
        self.repeatable = repeatable
        self.takes_many = takes_many
        self.reads_record = "local session, unreadable = load(" in self.text


TOUCH: Final = Script("touch", "_record", "_slide", repeatable=True, takes_many=True)
KEEP: Final = Script("keep", "_record", "_slide", repeatable=True)
GET: Final = Script("get", "_record", repeatable=True)
CREATE: Final = Script("create", "_record")
END: Final = Script("end", "_record")
FEATURES: Final = Script("features", "_record", repeatable=True)
STATE_GET: Final = Script("state_get", "_record", repeatable=True)
STATE_SET: Final = Script("state_set", "_record", "_state", repeatable=True)
STATE_DELETE: Final = Script("state_delete", "_record", "_state")
STATE_INCR: Final = Script("state_incr", "_record", "_state")
STATE_APPEND: Final = Script("state_append", "_record", "_state")
INDEX: Final = Script("index", "_record", "_index", repeatable=True)
UNINDEX: Final = Script("unindex", repeatable=True)
PAGE: Final = Script("page", "_record", "_index", repeatable=True)
CLIENTS: Final = Script("clients", repeatable=True)

ALL: Final = (
    TOUCH, KEEP, GET, CREATE, END, FEATURES, INDEX, UNINDEX, PAGE, CLIENTS,
    STATE_GET, STATE_SET, STATE_DELETE, STATE_INCR, STATE_APPEND,
)  # fmt: skip
