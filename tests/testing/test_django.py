"""The same under Django's test cases, whose methods each run in an event loop of their own."""

from django.test import TestCase, override_settings

from mcp_sessions.testing import connect
from project.catalogue.models import Book
from tests.support.asgi import demo_with


@override_settings(MCP_SESSIONS=demo_with())
class ToolTests(TestCase):
    """In a transaction that is rolled back."""

    async def test_an_async_tool_sees_what_the_test_saved(self) -> None:
        await Book.objects.acreate(title="A Test Case", author="Django", year=2005, copies=2)
        async with connect() as client:
            result = await client.call_tool("search_books", {"text": "A Test Case"})
        assert "A Test Case" in str(result.structured_content)

    async def test_a_second_test_has_a_client_of_its_own(self) -> None:
        async with connect(era="modern") as client:
            result = await client.call_tool("search_books", {"text": "A Test Case"})
        assert result.structured_content == {"result": []}
