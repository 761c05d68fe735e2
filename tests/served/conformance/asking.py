"""The suite's tools that ask the client while they run, by a request of their own (handshake revisions)."""

import json
from typing import Any, Final

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.session import ServerSession
from mcp_types import CreateMessageResult, ElicitResult, SamplingMessage, TextContent

USER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}


def _titled(word: str) -> list[dict[str, str]]:
    ordinals = ("First", "Second", "Third")
    return [{"const": f"value{n}", "title": f"{ordinal} {word}"} for n, ordinal in enumerate(ordinals, 1)]


ENUMS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice")}},
    },
    "required": [],
}


def add_asking_tools(server: MCPServer[Any]) -> None:
    """Register them all."""
    for tool in (
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
    ):
        server.add_tool(tool)


async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
    """Let the client's model answer the prompt."""
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    assert isinstance(result, CreateMessageResult)
    answer = result.content.text if isinstance(result.content, TextContent) else result.content.type
    return f"LLM response: {answer}"


async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
    """Ask the user for a name and an address."""
    return f"User response: {_described(await _ask(ctx, message, USER))}"


async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
    """Ask with a default value for each primitive type."""
    return f"Elicitation completed: {_described(await _ask(ctx, 'Please check these values', DEFAULTS))}"


async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
    """Ask with each form of choice."""
    return f"Elicitation completed: {_described(await _ask(ctx, 'Please choose', ENUMS))}"


async def _ask(ctx: Context[Any, Any], message: str, schema: dict[str, Any]) -> ElicitResult:
    session: ServerSession = ctx.session
    return await session.elicit_form(message, schema, related_request_id=ctx.request_id)


def _described(result: ElicitResult) -> str:
    return f"action={result.action}, content={json.dumps(result.content)}"
