"""The modules of docs/existing-projects.md that are no project of their own (see tests/projects)."""

import sys
from collections.abc import Iterator
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User

from mcp_sessions.routing import with_mcp
from mcp_sessions.testing import connect
from project.catalogue.models import Book
from tests.docs import markdown
from tests.routing.test_routing import django, post
from tests.support.asgi import endpoint

TEXT = markdown.read("existing-projects.md")


@pytest.fixture
def documented(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module of that title, under the name `documented`."""
    [block] = [block for block in markdown.blocks(TEXT, "python") if block.title == request.param]
    made = ModuleType("documented")
    sys.modules["documented"] = made
    exec(compile(block.code, block.title, "exec"), made.__dict__)  # noqa: S102 - the document's own code
    yield made
    del sys.modules["documented"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("documented")
@pytest.mark.parametrize("documented", ["mysite/catalogue.py"], indirect=True)
async def test_a_view_is_called_with_the_permissions_of_whoever_calls_the_tool() -> None:
    await Book.objects.all().adelete()
    for title, year in (("Emma", 1815), ("Persuasion", 1817), ("Dracula", 1897)):
        await Book.objects.acreate(title=title, author="", year=year)
    ada = await sync_to_async(User.objects.create)(username="ada")
    with endpoint(SERVER="documented.server"):
        async with connect(user=ada) as client:
            found = await client.call_tool("search_books", {"search": "ma"})
            assert found.structured_content == {"result": [{"title": "Emma", "year": 1815}]}
        async with connect(user=AnonymousUser()) as client:
            refused = await client.call_tool("search_books", {"search": "ma"})
            assert refused.is_error


@pytest.mark.usefixtures("documented")
@pytest.mark.parametrize("documented", ["mysite/middleware.py"], indirect=True)
@pytest.mark.parametrize(("hour", "status"), [(10, 200), (20, 503)])
async def test_middleware_of_your_own_sees_requests_for_the_endpoint_only(
    documented: Any, monkeypatch: pytest.MonkeyPatch, hour: int, status: int
) -> None:
    class Clock(datetime):
        """A clock that stands still."""

        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls(2026, 11, 26, hour)

    monkeypatch.setattr(documented, "datetime", Clock)
    with endpoint(MIDDLEWARE=["documented.OfficeHours"]):
        site = with_mcp(django)
        assert (await post(site, "http://testserver/mcp")).status_code == status
        assert (await post(site, "http://testserver/other")).status_code == 404


def test_the_example_of_an_event_has_the_fields_of_the_audit() -> None:
    import json

    from mcp_sessions.middleware import _described
    from mcp_sessions.serving.observing import Begun, Ended

    [block] = markdown.blocks(TEXT, "json")
    ended = Ended(Begun(1, "session", "", "ping", "", "", "", 0), 0, None, failed=False)
    assert list(json.loads(block.code)) == ["request_id", "path", "address", *_described(ended)]
