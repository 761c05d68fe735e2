"""The SDK's OpenTelemetry middleware, left out as long as nobody collects what it measures.

Without a tracer provider its spans go nowhere, and still cost a tenth of a call.
"""

import copy
from typing import Any

from mcp.server.lowlevel.server import Server
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

#: The class is private; every server has an instance.
_TELEMETRY = next(
    (type(m) for m in Server[Any]("probe").middleware if type(m).__name__ == "OpenTelemetryMiddleware"), None
)


class Kernel:
    """A server as the kernel should see it now: with its telemetry while a tracer provider is set, else without."""

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        self._plain = server
        self._middleware: list[Any] = []

    @property
    def server(self) -> Server[Any]:
        if _TELEMETRY is None or not isinstance(get_tracer_provider(), ProxyTracerProvider):
            return self._server
        if self._middleware != self._server.middleware:
            self._leave_out(_TELEMETRY)
        return self._plain

    def _leave_out(self, telemetry: type) -> None:
        """A copy that shares all but the list of middleware; made again when that list changes."""
        self._middleware = list(self._server.middleware)
        self._plain = copy.copy(self._server)
        self._plain.middleware = [m for m in self._middleware if not isinstance(m, telemetry)]
