"""The texts of handles: how they are made, and how they are read as models and people write them. Pure.

`basket-483-920-117` is for a principal with a subject: eight random digits and a check digit. Nobody else's number can
be addressed, so it need not be secret, and models copy it without mistakes. Where there is no subject, whoever has the
text has the handle: it has 26 random letters and digits, 130 bits, and a check character.
"""

import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KIND: Final = re.compile(r"[a-z]+(-[a-z]+)*\Z")
MAX_KIND_CHARS: Final = 32

#: Characters of a text that is worth reading.
MAX_CHARS: Final = 200
_GROUP: Final = 3

#: H. M. Damm's quasigroup of order 10: the check finds every wrong digit and every swap of neighbours.
_DAMM: Final = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)


def _doubled(value: int) -> int:
    """Twice a value in the field of 32 elements, modulo x^5 + x^2 + 1."""
    return (value << 1) ^ (0b100101 if value & 0b10000 else 0)


#: The same of order 32: 2·(x + y) in the field of 32 elements.
_DAMM_32: Final = tuple(tuple(_doubled(x ^ y) for y in range(32)) for x in range(32))


@dataclass(frozen=True, slots=True)
class Form:
    """One of the two forms."""

    alphabet: str
    #: Random characters; one more is the check character.
    length: int
    table: Sequence[Sequence[int]]

    def mint(self) -> str:
        """New characters, from the system's random source."""
        body = "".join(secrets.choice(self.alphabet) for _ in range(self.length))
        # The check character is what leads the quasigroup back to 0, which for both tables is the state itself.
        return body + self.alphabet[self._state(body)]

    def is_whole(self, characters: str) -> bool:
        """Whether there are as many characters as there should be, all of the alphabet."""
        return len(characters) == self.length + 1 and all(each in self.alphabet for each in characters)

    def checks(self, characters: str) -> bool:
        """Whether the check character fits the others."""
        return self._state(characters) == 0

    def _state(self, characters: str) -> int:
        state = 0
        for each in characters:
            state = self.table[state][self.alphabet.index(each)]
        return state


DIGITS: Final = Form("0123456789", 8, _DAMM)
#: Without the letters that are taken for digits, and without u.
SECRET: Final = Form("0123456789abcdefghjkmnpqrstvwxyz", 26, _DAMM_32)
_MISREAD: Final = str.maketrans("oil", "011")


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it was read: the canonical one, and whether it can be a handle."""

    canonical: str
    #: Whether it has the right length and characters.
    whole: bool
    #: Whether the check character fits, too.
    valid: bool
    #: Whether it has the form of those that are secrets.
    secret: bool = False


def mint(kind: str, form: Form) -> str:
    """A new text."""
    return _join(kind, form.mint())


def read(kind: str, text: str) -> Text:
    """Read a text of either form. Case, spaces, any hyphens and a missing kind are forgiven."""
    characters = _compact(text) if len(text) <= MAX_CHARS else ""
    prefix = kind.replace("-", "")
    for candidate in (characters.removeprefix(prefix), characters):
        for form in (DIGITS, SECRET):
            known = candidate.translate(_MISREAD)
            if form.is_whole(known):
                text = _join(kind, known)
                return Text(text, whole=True, valid=form.checks(known), secret=form is SECRET)
    return Text(text, whole=False, valid=False)


def _compact(text: str) -> str:
    """Without spaces, hyphens and invisible characters, in lower case; full-width digits and letters as usual ones."""
    return "".join(
        each
        for each in unicodedata.normalize("NFKC", text).lower()
        if each not in "_\N{MINUS SIGN}"
        and unicodedata.category(each) not in ("Pd", "Zs", "Cc", "Cf", "Zl", "Zp")
    )


def _join(kind: str, characters: str) -> str:
    groups = [characters[start : start + _GROUP] for start in range(0, len(characters), _GROUP)]
    return "-".join([kind, *groups])
