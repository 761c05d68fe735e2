"""Event streams: what writes to a log, what reads from it, and who delivers it to a client."""
