"""Serves a few requests with a tracer provider, and prints the spans: a process of its own, where it stays set."""

import asyncio
import json
import sys

import django
import httpx2
from mcp.server import MCPServer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

server: MCPServer[None] = MCPServer("traced")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@server.tool()
async def add(a: int, b: int) -> int:
    with trace.get_tracer("shop").start_as_current_span("of the tool"):
        return a + b


@server.tool()
async def fail() -> None:
    raise RuntimeError("on purpose")


async def main(exporter: InMemorySpanExporter) -> None:
    from mcp_sessions.testing import http_client, serving
    from tests.support.asgi import endpoint, opened, post
    from tests.support.mcp_client import META, MODERN, RawClient

    with endpoint(SERVER="tests.sdk.traced.server"):
        async with serving(), http_client() as http:
            client = await opened(http)
            arguments = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": {"traceparent": PARENT}}
            await post(http, client, client.request("tools/call", arguments))
            await post(http, client, client.request("tools/call", {"name": "fail", "arguments": {}}))
            await post(http, client, client.request("no/such/method"))
            await modern(http, RawClient(), META, MODERN)
    print(json.dumps([described(span) for span in exporter.get_finished_spans()]))  # noqa: T201


async def modern(http: httpx2.AsyncClient, client, meta, version) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta}
    headers = client.headers(mcp_protocol_version=version, mcp_method="tools/call", mcp_name="add")
    await http.post("http://testserver/mcp", json=client.request("tools/call", params), headers=headers)


def described(span) -> dict[str, object]:  # type: ignore[no-untyped-def] # noqa: ANN001
    return {
        "name": span.name,
        "kind": span.kind.name,
        "attributes": dict(span.attributes),
        "failed": span.status.status_code.name == "ERROR",
        "trace": format(span.context.trace_id, "032x"),
        "span": span.context.span_id,
        "parent": span.parent and span.parent.span_id,
    }


if __name__ == "__main__":
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    django.setup()
    # Under its own name, so that the server is served of which this module has the tools.
    from tests.sdk import traced

    asyncio.run(traced.main(exporter))
    sys.exit(0)
