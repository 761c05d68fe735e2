"""The only package that knows the SDK's internals: an SDK release means these files to look at."""

from mcp_sessions.sdk.dispatch import Channel
from mcp_sessions.sdk.server import (
    HANDSHAKE_VERSIONS,
    REQUEST_CANCELLED,
    Refused,
    ServerBinding,
    load_server,
    lowlevel_server,
)

__all__ = [
    "HANDSHAKE_VERSIONS",
    "REQUEST_CANCELLED",
    "Channel",
    "Refused",
    "ServerBinding",
    "load_server",
    "lowlevel_server",
]
