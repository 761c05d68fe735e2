"""The demo's MCP server: a small library. Clients can look up its books and take notes about a reader."""

from contextlib import suppress
from typing import Annotated

import anyio
from django.db.models import Q, Sum
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_sessions import OptInTools, StateHandle, current_session
from mcp_sessions.errors import NoCurrentSession
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions
from project.catalogue.models import Book

server = MCPServer(
    "library",
    title="A small library",
    instructions=(
        "Look up books with search_books. Use remember to note what the reader likes or dislikes, and read your notes "
        "with recall before you recommend something. Notes last as long as this session. Collect books in a reading "
        "list from start_reading_list. The stock can be changed after open_stock_room."
    ),
    # Every process can open what another one sealed for a client of the modern era.
    request_state_security=request_state_security(),
    # Announcements of one process reach the clients of every process.
    subscriptions=SharedSubscriptions(),
)
opt_in = OptInTools(server)


class ReadingList(StateHandle, kind="reading-list"):
    """Books to read: what start_reading_list returns, and the other tools take."""


Title = Annotated[str, Field(description="The exact title, as search_books gives it.", max_length=200)]


@server.tool()
async def search_books(
    text: Annotated[str, Field(description="Part of a title or of an author's name.", max_length=100)],
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
) -> list[str]:
    """Find books by title or author."""
    books = Book.objects.filter(Q(title__icontains=text) | Q(author__icontains=text))[:limit]
    return [str(book) async for book in books]


@server.tool()
def copies_on_shelf(title: Title) -> int:
    """How many copies of a book can be borrowed."""
    # A sync tool runs in a thread. It uses the ORM as a view does, and the session's synchronous state.
    with suppress(NoCurrentSession):  # a client of the modern era has no session to remember it in
        current_session().state_sync.set("last_book", title)
    return _book(title).copies


@server.tool()
async def remember(
    note: Annotated[str, Field(description="One thing about the reader.", min_length=1, max_length=500)],
) -> str:
    """Note something about the reader for the rest of this session."""
    notes = await current_session().state.append("notes", note)
    return f"Noted. Notes so far: {notes}."


@server.tool()
async def recall() -> list[str]:
    """Everything noted in this session, and the book that was last looked up."""
    state = current_session().state
    last_book = await state.get("last_book")
    looked_at = [f"Last looked at: {last_book}"] if last_book else []
    return [*await state.get("notes", []), *looked_at]


@server.tool()
async def forget() -> str:
    """Delete all notes of this session."""
    await current_session().state.delete("notes")
    return "All notes are deleted."


@server.tool()
async def start_reading_list() -> ReadingList:
    """Start a new, empty reading list."""
    return await ReadingList.create()


@server.tool()
async def add_to_reading_list(reading_list: ReadingList, title: Title) -> int:
    """Put a book on a reading list. Returns the number of books on it."""
    return await reading_list.append("titles", title)


@server.tool()
async def show_reading_list(reading_list: ReadingList) -> list[str]:
    """The books on a reading list."""
    titles: list[str] = await reading_list.get("titles", [])
    return titles


@server.tool()
async def take_inventory(
    ctx: Context,
    seconds_per_book: Annotated[
        float, Field(ge=0, le=5, description="How carefully to look at each book.")
    ] = 0.2,
) -> str:
    """Walk along the shelves and count every copy. Takes a while and reports progress after each book."""
    books = [book async for book in Book.objects.all()]
    for number, book in enumerate(books, start=1):
        await anyio.sleep(seconds_per_book)
        await ctx.report_progress(number, len(books), f"{book.title}: {book.copies}")
    return f"{sum(book.copies for book in books)} copies of {len(books)} books."


@server.tool()
async def open_stock_room() -> str:
    """Make the tool set_copies available in this session."""
    await current_session().enable_tools("set_copies")
    return "The stock room is open: set_copies is available. Close it with close_stock_room."


@server.tool()
async def close_stock_room() -> str:
    """Make the tool set_copies unavailable in this session."""
    await current_session().disable_tools("set_copies")
    return "The stock room is closed."


@opt_in.tool()
def set_copies(title: Title, copies: Annotated[int, Field(ge=0, le=1000)]) -> str:
    """Change how many copies of a book the library owns."""
    book = _book(title)
    book.copies = copies
    book.save(update_fields=["copies"])
    return f"{book} now has {copies} copies."


@server.resource("library://summary", mime_type="text/plain")
async def summary() -> str:
    """The library in one line."""
    copies = (await Book.objects.aaggregate(copies=Sum("copies")))["copies"]
    return f"{await Book.objects.acount()} books, {copies or 0} copies."


@server.resource("library://authors/{author}", mime_type="text/plain")
async def by_author(author: str) -> str:
    """All books of one author, one on each line."""
    books = Book.objects.filter(author__iexact=author).order_by("year")
    return "\n".join([str(book) async for book in books])


@server.prompt()
def recommend(mood: Annotated[str, Field(description="What the reader is in the mood for.")]) -> str:
    """Ask for a book that fits the reader."""
    return (
        f"Recommend one book of this library to a reader who is in the mood for: {mood}. Call recall first and "
        "follow your notes, find candidates with search_books, and check with copies_on_shelf that one can be "
        "borrowed."
    )


def _book(title: str) -> Book:
    try:
        return Book.objects.get(title=title)
    except Book.DoesNotExist:
        raise ToolError(f"The library has no book with the title {title!r}.") from None
