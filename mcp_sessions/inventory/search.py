"""What the text in the admin's search box may mean: a fingerprint, a handle, a client, a user, or a token's subject."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext_lazy

from mcp_sessions import conf, ids
from mcp_sessions.inventory.listing import Match
from mcp_sessions.inventory.lookups import Lookup, Named, Prefix, may_be_handle
from mcp_sessions.inventory.principals import principals_of_tokens, principals_of_users
from mcp_sessions.records import ANONYMOUS, FINGERPRINT_PREFIX
from mcp_sessions.store.calls.queries import Query

HELP: Final = gettext_lazy(
    "A session id, a handle, the first 8 or more digits of a fingerprint, (part of) a client’s name, (part of) a user "
    "name, a token’s subject, or “anonymous”. Session ids and handles are never put into an address."
)
#: Clients, and users, that one text may stand for. Each of them costs a read.
MAX_MEANINGS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a text may mean."""

    matches: Sequence[Match]
    #: Whether more clients or users match than were taken.
    ambiguous: bool


def search(text: str, aliases: Iterable[str], seen: Iterable[str]) -> Search:
    """Everything that the text may mean at these endpoints, given the names of the clients that were seen lately."""
    aliases = tuple(aliases)
    # The text itself may be a client that was not seen lately.
    clients = list(dict.fromkeys([text, *(name for name in seen if text.casefold() in name.casefold())]))
    users = principals_of_users(text, limit=MAX_MEANINGS + 1)
    principals = dict.fromkeys([*users[:MAX_MEANINGS], *_other_principals(text, aliases)])
    return Search(
        matches=[
            *lookups(text),
            *(Query(client=name) for name in clients[:MAX_MEANINGS]),
            *(Query(principal=principal) for principal in principals),
        ],
        ambiguous=len(clients) > MAX_MEANINGS or len(users) > MAX_MEANINGS,
    )


def id_in(text: str) -> str | None:
    """The session id that a text is, perhaps behind the name of its header; None if it is none."""
    last = text.split()[-1:]
    return last[0] if last and ids.looks_like_one(last[0]) else None


def lookups(text: str) -> list[Lookup]:
    """The lookups of a text that identifies a record: a session id, a fingerprint or its beginning, or a handle."""
    if (session_id := id_in(text)) is not None:
        return [Prefix(digits=ids.fingerprint(session_id))]
    digits = text.strip().lower()
    found: list[Lookup] = [Prefix(digits=digits)] if FINGERPRINT_PREFIX.match(digits) else []
    # Digits alone may be either; with hexadecimal letters among them, they are a fingerprint.
    if may_be_handle(text) and (not found or digits.isdecimal()):
        found.append(Named(text=text))
    return found


def _other_principals(text: str, aliases: Sequence[str]) -> Iterator[str]:
    """Principals that are not Django users."""
    if text.lower() == ANONYMOUS:
        yield ANONYMOUS
    for alias in aliases:
        endpoint = conf.endpoint(alias)
        if endpoint.token_verifier is not None:
            yield from principals_of_tokens(text, endpoint.issuer_url)
