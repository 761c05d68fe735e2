"""The suite's resources, prompts and completions."""

import json
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    TextResourceContents,
)

from tests.served.conformance.samples import PNG, PNG_BASE64


def add_readables(server: MCPServer[Any]) -> None:
    """Register them all."""
    server.resource("test://static-text", mime_type="text/plain")(static_text)
    server.resource("test://static-binary", mime_type="image/png")(static_binary)
    server.resource("test://watched-resource", mime_type="text/plain")(watched)
    server.resource("test://template/{id}/data", mime_type="application/json")(template)
    for prompt in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
    ):
        server.prompt()(prompt)
    server.completion()(complete)  # type: ignore[no-untyped-call]  # not annotated in the SDK


def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    """An image."""
    return PNG


def watched() -> str:
    """What clients may subscribe to."""
    return "Nothing happens here."


def template(id: str) -> str:  # noqa: A002 - the suite names the parameter
    """Data by id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
    """A prompt that carries a resource."""
    text = "Embedded resource content for testing."
    contents = TextResourceContents(uri=resourceUri, mime_type="text/plain", text=text)
    question = UserMessage("Please process the embedded resource above.")
    return [UserMessage(EmbeddedResource(resource=contents)), question]


def test_prompt_with_image() -> list[UserMessage]:
    """A prompt that carries an image."""
    image = UserMessage(ImageContent(data=PNG_BASE64, mime_type="image/png"))
    return [image, UserMessage("Please analyze the image above.")]


async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion:
    """Complete any argument to one of three words."""
    words = [word for word in ("paris", "park", "test") if word.startswith(argument.value)]
    return Completion(values=words, total=len(words), has_more=False)
