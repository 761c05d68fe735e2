"""The SDK's in-memory session manager, in its default mode (event streams) and in JSON mode."""

from benchmarks.servers.lifespan import WithLifespan
from benchmarks.servers.tool import server

#: The default of 10,000 would refuse the last sessions of the memory measurement.
MAX_SESSIONS = 50_000


def _application(*, json_response: bool) -> WithLifespan:
    app = server.streamable_http_app(json_response=json_response, max_sessions=MAX_SESSIONS)
    return WithLifespan(app, lambda: app.router.lifespan_context(app))


sse = _application(json_response=False)
json = _application(json_response=True)
