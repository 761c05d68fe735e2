"""The signals that the app sends."""

from typing import Final

from django.dispatch import Signal

#: A session ended and is already deleted from the store. Sent once, in the process that ended it, with `fingerprint`,
#: `alias` (the endpoint), `reason`, `kind`, and `session`, what it was at the end; the sender is `session.Session`.
#: Reasons are "deleted" (by its client), "expired_by_operator", "max_age", and "idle" (after IDLE_TTL, or FIRST_TTL if
#: it was never used). After an end by time it comes with one of the next heartbeats, unless a request of the session
#: ran, or a stream of it was open, when it reached MAX_AGE. `kind` is "session", or "conversation" for a conversation
#: that the host names, because tools use it as their session. Ends of other records (handles, user states, callers,
#: listeners) are not signalled.
session_ended: Final = Signal()

#: The record of a session was gone, and a request with its id opened it again, with empty state (ON_MISS = "revive").
#: Sent once, in the process that opened it and before the request is handled, with `session` (a `session.Session`) and
#: `alias`; the sender is `session.Session`.
session_revived: Final = Signal()

#: A session was initialized and is in the store. Sent once, in the process that answered `initialize`, with `session`
#: (a `session.Session`) and `alias`; the sender is `session.Session`.
session_created: Final = Signal()
