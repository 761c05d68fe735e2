"""Who is measured. Each is served by the same launcher, in a process of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One server under one name."""

    #: How the command line and the results call it.
    name: str
    #: Its name in the tables.
    title: str
    #: What serves it: "daphne" (its command), "patched" (`mcp_sessions.daphne`) or "uvicorn".
    server: str
    #: `module:attribute` of the ASGI application.
    application: str
    path: str = "/mcp"
    #: Name of a requirements file under peers/, for those that need an environment of their own.
    peer: str | None = None
    #: For its process.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The checkout whose code is served; None for this one.
    checkout: Path | None = None


#: This app as its documentation sets it up: the `daphne` command, and an `asgi.py` that patches it.
OURS: Final = "ours-daphne"
#: The same without that line of `asgi.py`.
UNPATCHED: Final = "ours-unpatched"
SDK_SSE: Final = "sdk-sse-daphne"
SDK_JSON: Final = "sdk-json-daphne"
#: The SDK in this app's server: what remains of a ratio when both have the same one.
PATCHED: Final = {SDK_SSE: "sdk-sse-patched", SDK_JSON: "sdk-json-patched"}
DJANGO_MCP: Final = "django-mcp-server"
#: The other Python servers that keep their sessions in Redis.
REDIS_PEERS: Final = ("mcp-persist", "drf-mcp-server")

CONTESTANTS: Final = (
    Contestant(
        name=OURS,
        title="this app, Redis (daphne)",
        server="daphne",
        application="benchmarks.servers.ours:application",
    ),
    Contestant(
        name=UNPATCHED,
        title="this app, Redis (plain daphne)",
        server="daphne",
        application="benchmarks.servers.ours_unpatched:application",
    ),
    Contestant(
        name=SDK_SSE,
        title="SDK in memory, default mode (daphne)",
        server="daphne",
        application="benchmarks.servers.sdk:sse",
    ),
    Contestant(
        name=SDK_JSON,
        title="SDK in memory, JSON mode (daphne)",
        server="daphne",
        application="benchmarks.servers.sdk:json",
    ),
    Contestant(
        name=PATCHED[SDK_SSE],
        title="SDK in memory, default mode (patched daphne)",
        server="patched",
        application="benchmarks.servers.sdk:sse",
    ),
    Contestant(
        name=PATCHED[SDK_JSON],
        title="SDK in memory, JSON mode (patched daphne)",
        server="patched",
        application="benchmarks.servers.sdk:json",
    ),
    Contestant(
        name="ours-uvicorn",
        title="this app, Redis (uvicorn)",
        server="uvicorn",
        application="benchmarks.servers.ours:application",
    ),
    Contestant(
        name="sdk-sse-uvicorn",
        title="SDK in memory, default mode (uvicorn)",
        server="uvicorn",
        application="benchmarks.servers.sdk:sse",
    ),
    Contestant(
        name="sdk-json-uvicorn",
        title="SDK in memory, JSON mode (uvicorn)",
        server="uvicorn",
        application="benchmarks.servers.sdk:json",
    ),
    Contestant(
        name="mcp-persist",
        title="mcp-persist, Redis (daphne)",
        server="daphne",
        application="benchmarks.servers.persist:application",
        path="/mcp/",
        peer="mcp-persist",
    ),
    Contestant(
        name="drf-mcp-server",
        title="djangorestframework-mcp-server, django-redis (daphne)",
        server="daphne",
        application="benchmarks.servers.drf:application",
        path="/mcp/",
        peer="djangorestframework-mcp-server",
    ),
    Contestant(
        name=DJANGO_MCP,
        title="django-mcp-server, sessions in Redis (daphne)",
        server="daphne",
        application="benchmarks.servers.django_mcp:application",
        peer="django-mcp-server",
    ),
    Contestant(
        name="floor-daphne",
        title="only the SDK's kernel, no sessions (daphne)",
        server="daphne",
        application="benchmarks.servers.floor:application",
    ),
    Contestant(
        name="floor-patched",
        title="only the SDK's kernel, no sessions (patched daphne)",
        server="patched",
        application="benchmarks.servers.floor:application",
    ),
)
BY_NAME: Final = {contestant.name: contestant for contestant in CONTESTANTS}
