"""An MCP server that says who asks, in both eras, and keeps what belongs to one user."""

from io import StringIO
from typing import Any

from django.core.management import call_command
from mcp.server import MCPServer

from mcp_sessions import StateHandle, current_session, current_user
from mcp_sessions.errors import NoCurrentUser
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions

server = MCPServer(
    "whoami", request_state_security=request_state_security(), subscriptions=SharedSubscriptions()
)


class Note(StateHandle, kind="note"):
    """A note of one user."""


@server.tool()
async def whoami() -> dict[str, Any]:
    """The principal and the name of Django's user."""
    try:
        user = current_user()
    except NoCurrentUser:
        return {"principal": "anonymous", "name": None}
    found = await user.auser()
    return {"principal": user.principal, "name": None if found is None else found.get_username()}


@server.tool()
def whoami_in_a_thread() -> str:
    """The name of Django's user, or of their class without one."""
    user = current_user().user
    return "nobody" if user is None else str(user.get_username())


@server.tool()
async def name_of_the_session() -> str:
    return str(await current_session().auser())


@server.tool()
async def make_note() -> Note:
    return await Note.create()


@server.tool()
async def read_note(note: Note) -> str:
    return "read"


@server.tool()
def manage(arguments: list[str]) -> str:
    """Run a command of manage.py in this process, which has everything loaded; what it prints."""
    said = StringIO()
    call_command(*arguments, stdout=said, stderr=StringIO())
    return said.getvalue().strip()
