"""Tests of the demo's tools, as a project of one's own has them: `python manage.py test`."""

from django.test import TestCase

from mcp_sessions.testing import InProcessClient, connect
from project.catalogue.models import Book


class LibraryTests(TestCase):
    """Sessions are in memory, and the database is rolled back after each test."""

    async def test_a_book_is_found_by_its_author(self) -> None:
        await Book.objects.acreate(title="Testing", author="A. Tester", year=2026, copies=1)
        async with connect() as client:
            assert await self.call(client, "search_books", text="tester") == ["Testing by A. Tester (2026)"]

    async def test_notes_last_as_long_as_the_session(self) -> None:
        async with connect(state={"notes": ["likes sea stories"]}) as client:
            await self.call(client, "remember", note="reads at night")
            assert await self.call(client, "recall") == ["likes sea stories", "reads at night"]
        async with connect() as client:
            assert await self.call(client, "recall") == []

    async def call(self, client: InProcessClient, tool: str, **arguments: str) -> object:
        """The result of a tool."""
        result = await client.call_tool(tool, arguments)
        assert result.structured_content is not None, result.content
        return result.structured_content["result"]
