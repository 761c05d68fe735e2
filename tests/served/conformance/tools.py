"""The suite's tools that answer by themselves: content of every kind, logs, progress, errors, schemas."""

from typing import Annotated, Any, Final

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from tests.served.conformance.samples import PNG_BASE64, WAV_BASE64

#: Seconds between two messages of one tool; the suite asks for about 50 ms.
PAUSE: Final = 0.05

#: What the tool `json_schema_2020_12_tool` must list, word for word.
SCHEMA_2020_12: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def schema_tool() -> Tool:
    """A tool whose schema uses what Python's annotations cannot say."""

    def json_schema_2020_12_tool() -> str:
        """Tool with JSON Schema 2020-12 features."""
        return "The schema is what matters here."

    tool = Tool.from_function(json_schema_2020_12_tool)
    return tool.model_copy(update={"parameters": SCHEMA_2020_12})


def add_tools(server: MCPServer[Any]) -> None:
    """Register them all."""
    for tool in (
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_error_handling,
        test_tool_with_logging,
        test_logging_tool,
        test_tool_with_progress,
        test_reconnection,
        test_custom_headers,
        test_missing_capability,
        test_trigger_tool_change,
        test_trigger_prompt_change,
    ):
        server.add_tool(tool)


def test_simple_text() -> str:
    """Return text."""
    return "This is a simple text response for testing."


def test_image_content() -> CallToolResult:
    """Return an image."""
    return _content(_image())


def test_audio_content() -> CallToolResult:
    """Return a sound."""
    return _content(AudioContent(data=WAV_BASE64, mime_type="audio/wav"))


def test_embedded_resource() -> CallToolResult:
    """Return a resource."""
    text = "This is an embedded resource content."
    return _content(_resource("test://embedded-resource", "text/plain", text))


def test_multiple_content_types() -> CallToolResult:
    """Return a text, an image and a resource."""
    text = TextContent(text="Multiple content types test:")
    json = '{"test":"data","value":123}'
    return _content(text, _image(), _resource("test://mixed-content-resource", "application/json", json))


def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
    """Log three times, with pauses."""
    await ctx.log("info", "Tool execution started")
    await anyio.sleep(PAUSE)
    await ctx.log("info", "Tool processing data")
    await anyio.sleep(PAUSE)
    await ctx.log("info", "Tool execution completed")
    return "Logged three times."


async def test_logging_tool(ctx: Context[Any, Any]) -> str:
    """Log once; a modern client that did not ask for logs must not see it."""
    await ctx.log("info", "Only for those who asked for logs")
    return "Logged once."


async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
    """Report 0, 50 and 100 of 100, with pauses."""
    await ctx.report_progress(0, 100)
    await anyio.sleep(PAUSE)
    await ctx.report_progress(50, 100)
    await anyio.sleep(PAUSE)
    await ctx.report_progress(100, 100)
    return "Reported progress three times."


async def test_reconnection(ctx: Context[Any, Any]) -> str:
    """Close this call's stream before the result, which the client gets when it resumes the stream."""
    await ctx.close_sse_stream()
    await anyio.sleep(PAUSE)
    return "The client came back for this."


def test_custom_headers(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """Take an argument that a header repeats."""
    return f"Region: {region}"


def test_missing_capability(ctx: Context[Any, Any]) -> str:
    """Need sampling, and say so to a client that has not declared it."""
    if ctx.client_capabilities is not None and ctx.client_capabilities.sampling is not None:
        return "The client can sample."
    needed = ClientCapabilities(sampling=SamplingCapability())
    data = MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
    raise MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        "This tool needs sampling.",
        data.model_dump(by_alias=True, exclude_none=True),
    )


async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
    """Announce changed tools. They stay the same: other scenarios list them at the same time."""
    await ctx.notify_tools_changed()
    return "Announced."


async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
    """Announce changed prompts."""
    await ctx.notify_prompts_changed()
    return "Announced."


def _content(*blocks: ContentBlock) -> CallToolResult:
    return CallToolResult(content=list(blocks))


def _image() -> ImageContent:
    return ImageContent(data=PNG_BASE64, mime_type="image/png")


def _resource(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))
