"""The kinds of records in words, for the admin and the shell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from mcp_sessions.inventory.display import number, printable
from mcp_sessions.records import KINDS, Kind, Session

#: Kinds that keep what tools stored.
WITH_STATE: Final[tuple[Kind, ...]] = ("session", "handle", "user", "conversation")
#: Kinds that are told apart by a label.
LABELLED: Final[tuple[Kind, ...]] = ("handle", "conversation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a record of a kind is, and what its end does."""

    is_: Promise
    ends: Promise


#: What people call one record of a kind, and several: `records.WORDS` in their language.
NAMES: Final[Mapping[Kind, tuple[Promise, Promise]]] = {
    "session": (gettext_lazy("session"), gettext_lazy("sessions")),
    "handle": (gettext_lazy("handle"), gettext_lazy("handles")),
    "user": (gettext_lazy("user state"), gettext_lazy("user states")),
    "conversation": (gettext_lazy("conversation"), gettext_lazy("conversations")),
    "caller": (gettext_lazy("caller"), gettext_lazy("callers")),
    "listener": (gettext_lazy("listener"), gettext_lazy("listeners")),
}
_COUNTED: Final = {
    "session": ngettext_lazy("%(number)s session", "%(number)s sessions", "count"),
    "handle": ngettext_lazy("%(number)s handle", "%(number)s handles", "count"),
    "user": ngettext_lazy("%(number)s user state", "%(number)s user states", "count"),
    "conversation": ngettext_lazy("%(number)s conversation", "%(number)s conversations", "count"),
    "caller": ngettext_lazy("%(number)s caller", "%(number)s callers", "count"),
    "listener": ngettext_lazy("%(number)s listener", "%(number)s listeners", "count"),
}


EXPLANATIONS: Final[Mapping[Kind, Explanation]] = {
    "session": Explanation(
        is_=gettext_lazy("what a client opened with “initialize”, and the state that tools keep in it"),
        ends=gettext_lazy(
            "Every node answers the client of a session with 404. What tools kept in it is deleted. The client may "
            "open a new one."
        ),
    ),
    "handle": Explanation(
        is_=gettext_lazy("state that a tool made for its caller, who names it in later calls"),
        ends=gettext_lazy(
            "What tools kept under a handle is deleted. A call that still names it is told that it ended."
        ),
    ),
    "user": Explanation(
        is_=gettext_lazy("what tools keep of one user over all of their clients"),
        ends=gettext_lazy(
            "What tools kept of a user is deleted. It begins again, empty, with their next call."
        ),
    ),
    "conversation": Explanation(
        is_=gettext_lazy("state of one conversation in a client, which tools use as a session"),
        ends=gettext_lazy(
            "What tools kept in a conversation is deleted. It begins again, empty, with its next call."
        ),
    ),
    "caller": Explanation(
        is_=gettext_lazy("who calls without a session, and with which client"),
        ends=gettext_lazy("A caller disappears from this list until its next call. It is not blocked."),
    ),
    "listener": Explanation(
        is_=gettext_lazy("a client that waits for notifications without a session"),
        ends=gettext_lazy("The stream of a listener is closed. The client may open a new one."),
    ),
}


def words_for(record: Session) -> str:
    """The kind of a record, with its label in parentheses: "session", "handle (basket)"."""
    word = str(NAMES[record.kind][0])
    return f"{word} ({printable(record.label, 40)})" if record.label else word


def counted(counts: Mapping[Kind, int]) -> str:
    """How many of which kinds, most first: "3 handles and 1 session"; "0 records" for none."""
    present = sorted((kind for kind in KINDS if counts.get(kind)), key=lambda kind: -counts[kind])
    numbers = [(kind, {"count": counts[kind], "number": number(counts[kind])}) for kind in present]
    return listed([_COUNTED[kind] % each for kind, each in numbers]) or counted_records(0)


def counted_records(records: int) -> str:
    """The same where the kinds are not known: "1,234 records"."""
    return ngettext("%(number)s record", "%(number)s records", records) % {"number": number(records)}


def listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return get_text_list(list(words), _("and"))
