"""Answering requests: one runtime for each endpoint and event loop, one exchange for each request."""
