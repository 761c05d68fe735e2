"""The signals that the app sends."""

from typing import Final

from django.dispatch import Signal

#: A session was ended on purpose and is already deleted from the store. Sent once, in the process that ended it, with
#: `fingerprint`, `alias` (the endpoint) and `reason` (a `store.calls.sessions.EndReason`). The sender is
#: `session.Session`. Nothing is sent for a session that expires.
session_ended: Final = Signal()

#: A session was initialized and is in the store. Sent once, in the process that answered `initialize`, with `session`
#: (a `session.Session`) and `alias`; the sender is `session.Session`.
session_created: Final = Signal()
