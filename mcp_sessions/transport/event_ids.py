"""The ids of events: they name session, stream and position. Pure.

Globally unique within the session, and assigned per stream (Streamable HTTP, section Resumability and Redelivery). They
stay unique when Redis loses data: an exchange counts its own messages, and its stream has a random name; the store
numbers those of the standalone stream by its clock, in microseconds. Ids of older releases, which counted those from 1,
are still understood.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

#: The name of a session's standalone stream; exchanges have streams with random names of 16 hexadecimal digits.
STANDALONE: Final = "standalone"

_EVENT_ID: Final = re.compile(rf"([0-9a-f]{{8}})-([0-9a-f]{{16}}|{STANDALONE})-(0|[1-9][0-9]{{0,15}})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventId:
    """One place in one stream of one session. Position 0 is before the first event."""

    #: The first 8 hexadecimal digits of the session's fingerprint.
    session: str
    stream: str
    position: int

    @classmethod
    def of(cls, fingerprint: str, stream: str, position: int) -> Self:
        return cls(session=fingerprint[:8], stream=stream, position=position)

    @classmethod
    def parse(cls, text: str, *, fingerprint: str) -> Self | None:
        """The id in a `Last-Event-ID` header; None for a malformed one and for one of another session."""
        match = _EVENT_ID.match(text)
        if match is None or match[1] != fingerprint[:8]:
            return None
        return cls(session=match[1], stream=match[2], position=int(match[3]))

    def __str__(self) -> str:
        return f"{self.session}-{self.stream}-{self.position}"
