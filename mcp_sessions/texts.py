"""Text of clients and operators as a database keeps it.

JSON can carry NUL and halves of surrogate pairs, and so can the name of a client; PostgreSQL takes no NUL, and no
database takes half a pair. Such a character is kept as U+FFFD and its number in four hexadecimal digits: `�D800`. A
U+FFFD in front of what would read so is kept as `�FFFD`: different texts stay different.
"""

import re
from typing import Final

_NUMBERS: Final = "0000|D[89A-F][0-9A-F]{2}|FFFD"
_UNSTORABLE: Final = re.compile(rf"[\0\ud800-\udfff]|\ufffd(?={_NUMBERS})")
_KEPT: Final = re.compile(rf"\ufffd({_NUMBERS})")


def storable(text: str) -> str:
    """The text as a column of any database takes it. Almost every text is that already.

    What is kept so has to be `restored` before it is kept elsewhere.
    """
    return _UNSTORABLE.sub(lambda found: f"\ufffd{ord(found[0]):04X}", text)


def readable(text: str) -> str:
    """The text as people may see it: without control and direction characters, which could disguise it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def restored(text: str) -> str:
    """The text that `storable` made this of."""
    return _KEPT.sub(lambda found: chr(int(found[1], 16)), text)
