"""mcp-persist as its README sets it up for several workers: Redis, durable sessions."""

import os

from mcp_persist import with_persistence

from benchmarks.servers.lifespan import WithLifespan
from benchmarks.servers.tool import server

_app = with_persistence(server, backend="redis", url=os.environ["REDIS_URL"], ttl=3600, durable_sessions=True)
application = WithLifespan(_app, lambda: _app.router.lifespan_context(_app))
