"""The filtered list for programs: as a file of any length, and as pages of JSON."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from mcp_sessions.admin import filters
from mcp_sessions.admin.changelist import AFTER, RecordChangeList
from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory.documents import FIELDS, summary
from mcp_sessions.inventory.listing import entry_text
from mcp_sessions.models import MCPSession

#: Records that are read, and written, at once.
BATCH: Final = 500
#: What a spreadsheet takes for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Rows = Sequence[MCPSession]
Model = admin.ModelAdmin


def export(modeladmin: "Model[MCPSession]", request: HttpRequest, file_format: str) -> HttpResponseBase:
    """All records that pass the filters in the address, as CSV or JSON, read while they are sent.

    Raises: StoreUnavailable before anything is sent; afterwards the file ends in the middle.
    """
    changelist = _changelist(modeladmin, request)
    if file_format not in _WRITERS:
        raise Http404
    content_type, write = _WRITERS[file_format]
    pages = _pages(changelist)
    # The first page is read now: if that fails, the answer says so.
    parts = write(chain([next(pages)], pages))
    content = _in_threads(parts) if isinstance(request, ASGIRequest) else parts
    headers = {
        "Content-Disposition": f'attachment; filename="mcp-sessions.{file_format}"',
        "Cache-Control": "no-store",
    }
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


def api(modeladmin: "Model[MCPSession]", request: HttpRequest) -> HttpResponse:
    """One page of the records that pass the filters in the address; `next` is the address of the next one."""
    problems = list(filters.problems(request))
    if problems:
        return JsonResponse({"error": " ".join(problems)}, status=400)
    try:
        changelist = _changelist(modeladmin, request)
    except PermissionDenied:
        return JsonResponse({"error": "The permission to export MCP sessions is missing."}, status=403)
    except UnsupportedLookup as error:
        return JsonResponse({"error": str(error)}, status=400)
    except StoreUnavailable:
        headers = {"Retry-After": "5"}
        return JsonResponse({"error": "The session store does not answer."}, status=503, headers=headers)
    page = changelist.page
    following = None if page.after is None else changelist.get_query_string({AFTER: entry_text(page.after)})
    return JsonResponse(
        {
            "records": [summary(row) for row in changelist.result_list],
            "total": page.total,
            "total_is_exact": page.exact,
            "next": None if following is None else request.build_absolute_uri(request.path + following),
        },
        headers={"Cache-Control": "no-store"},
    )


def _changelist(modeladmin: Any, request: HttpRequest) -> RecordChangeList:
    """The list that the address asks for. Raises: PermissionDenied."""
    if request.method != "GET" or not modeladmin.has_export_permission(request):
        raise PermissionDenied
    changelist: ChangeList = modeladmin.get_changelist_instance(request)
    assert isinstance(changelist, RecordChangeList)  # noqa: S101 - what get_changelist says
    return changelist


def _pages(changelist: RecordChangeList) -> Iterator[Rows]:
    queryset: Any = changelist.queryset
    after = None
    while True:
        found = queryset.read_page(limit=BATCH, after=after)
        yield found.rows
        after = found.of.after
        if after is None:
            return


def _csv(pages: Iterable[Rows]) -> Iterator[bytes]:
    yield _lines([FIELDS])
    for rows in pages:
        yield _lines([[_cell(value) for value in summary(row).values()] for row in rows])


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: clients choose their names."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json(pages: Iterable[Rows]) -> Iterator[bytes]:
    yield b"["
    separator = "\n"
    for rows in pages:
        texts = [json.dumps(summary(row)) for row in rows]
        yield (separator + ",\n".join(texts)).encode() if texts else b""
        separator = ",\n" if texts else separator
    yield b"\n]\n"


_WRITERS: Final[dict[str, tuple[str, Callable[[Iterable[Rows]], Iterator[bytes]]]]] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "json": ("application/json", _json),
}


async def _in_threads(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The parts, each made in a thread when it is its turn: under ASGI, Django would collect a plain iterator first."""
    while (part := await sync_to_async(lambda: next(parts, None))()) is not None:
        yield part
