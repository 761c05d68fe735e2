"""What the app tells Django's signal receivers."""

from typing import Final

from django.dispatch import Signal

#: A session was ended on purpose, and the store has already forgotten it. Sent once, in the process that ended it, with
#: `fingerprint`, `alias` (the endpoint) and `reason` (an `EndReason`); the sender is `session.Session`.
#: A session that runs out of time sends nothing.
session_ended: Final = Signal()

#: A session was initialized, and the store has it. Sent once, in the process that answered `initialize`, with `session`
#: (a `session.Session`) and `alias`; the sender is `session.Session`.
session_created: Final = Signal()
