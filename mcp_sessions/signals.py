"""The signals that the app sends."""

from typing import Final

from django.dispatch import Signal

#: A session was ended and is already deleted from the store. Sent once, in the process that ended it, with
#: `fingerprint`, `alias` (the endpoint), `reason` and `kind`; the sender is `session.Session`. Reasons are "deleted"
#: (by its client), "expired_by_operator", and "max_age" (a request of it ran, or a stream of it was open, when it
#: reached MAX_AGE). A session that has nothing open expires without a signal. `kind` is "session", or "conversation"
#: for a conversation that the host names, because tools use it as their session. Ends of other records (handles, user
#: states, callers, listeners) are not signalled.
session_ended: Final = Signal()

#: The record of a session was gone, and a request with its id opened it again, with empty state (ON_MISS = "revive").
#: Sent once, in the process that opened it and before the request is handled, with `session` (a `session.Session`) and
#: `alias`; the sender is `session.Session`.
session_revived: Final = Signal()

#: A session was initialized and is in the store. Sent once, in the process that answered `initialize`, with `session`
#: (a `session.Session`) and `alias`; the sender is `session.Session`.
session_created: Final = Signal()
