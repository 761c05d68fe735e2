"""The filtered list for programs: as a file of any length, and as pages of JSON."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.utils import translation

from mcp_sessions.admin import common, filters
from mcp_sessions.admin.changelist import AFTER, BEFORE, RecordChangeList
from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory.display import ENGLISH, printable
from mcp_sessions.inventory.documents import FIELDS, summary
from mcp_sessions.inventory.listing import entry_of, entry_text
from mcp_sessions.models import MCPSession

if TYPE_CHECKING:
    from mcp_sessions.admin import MCPSessionAdmin

#: Records that are read, and written, at once.
BATCH: Final = 500
#: What an address may have.
PARAMETERS: Final = (
    filters.ENDPOINT,
    filters.KIND,
    "label",
    "client",
    "protocol",
    filters.USER,
    filters.ACTIVITY,
    filters.STATE,
    SEARCH_VAR,
    ORDER_VAR,
    AFTER,
    BEFORE,
)
#: What a spreadsheet takes for the beginning of a formula: at that of a cell, or behind a semicolon or a tab, which
#: separate cells where the comma is in numbers, as in German.
_FORMULA: Final = re.compile(r"""(^|[;\t][\s"']*)(?=[=+\-@\t\r\n])""")
#: What says that a request is for programs.
_FOR_PROGRAMS: Final = "_mcp_sessions_for_programs"

Rows = Sequence[MCPSession]


def export(modeladmin: "MCPSessionAdmin", request: HttpRequest, file_format: str) -> HttpResponseBase:
    """All records that pass the filters in the address, as CSV or JSON, read while they are sent.

    What the address asks for wrongly gets 400. Raises: PermissionDenied; StoreUnavailable before anything is sent;
    afterwards the file ends in the middle.
    """
    if not modeladmin.has_export_permission(request):
        raise PermissionDenied
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    if file_format not in _WRITERS:
        raise Http404
    try:
        pages = _pages(_changelist(modeladmin, request))
        if away := common.reach_of(request).away:
            raise StoreUnavailable(f"an export of all endpoints needs {', '.join(away)}")
    except UnsupportedLookup as error:
        return JsonResponse({"error": str(error)}, status=400)
    content_type, write = _WRITERS[file_format]
    # The first page is read now: if that fails, the answer says so.
    parts = write(chain([next(pages)], pages))
    content = _in_threads(parts) if isinstance(request, ASGIRequest) else parts
    headers = {
        "Content-Disposition": f'attachment; filename="mcp-sessions.{file_format}"',
        "Cache-Control": "no-store",
    }
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


def api(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> HttpResponse:
    """One page of the records that pass the filters in the address; `next` is the address of the next one."""
    # First: what is wrong with the address says which users there are.
    if not modeladmin.has_export_permission(request):
        return JsonResponse({"error": "The permission to export MCP sessions is missing."}, status=403)
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    try:
        changelist = _changelist(modeladmin, request)
    except UnsupportedLookup as error:
        return JsonResponse({"error": str(error)}, status=400)
    except StoreUnavailable:
        headers = {"Retry-After": "5"}
        return JsonResponse({"error": "The session store does not answer."}, status=503, headers=headers)
    page, away = changelist.page, common.reach_of(request).away
    following = None if page.after is None else changelist.get_query_string({AFTER: entry_text(page.after)})
    return JsonResponse(
        {
            "records": [summary(row) for row in changelist.result_list],
            "total": page.total,
            "total_is_exact": page.exact and not away,
            "unreachable": away,
            "next": None if following is None else request.build_absolute_uri(request.path + following),
        },
        headers={"Cache-Control": "no-store"},
    )


def refuse_parts(request: HttpRequest, parameter: str) -> None:
    """Raises: UnsupportedLookup, if programs ask: nobody would tell them that a value means more than is listed."""
    if getattr(request, _FOR_PROGRAMS, False):
        raise UnsupportedLookup(f"“{parameter}” means too many clients or users. Give more of the name.")


def _changelist(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> RecordChangeList:
    """The list that the address asks for.

    Raises: UnsupportedLookup for what is wrong with the address, with what is allowed; StoreUnavailable.
    """
    problems = [*_wrong_parameters(request), *filters.problems(request)]
    if problems:
        raise UnsupportedLookup(" ".join(problems))
    setattr(request, _FOR_PROGRAMS, True)
    changelist: ChangeList = modeladmin.get_changelist_instance(request)
    assert isinstance(changelist, RecordChangeList)  # noqa: S101 - what get_changelist says
    column = changelist.activity_column
    if request.GET.get(ORDER_VAR, "") not in ("", str(column), str(-column)):
        raise UnsupportedLookup(f"“{ORDER_VAR}” may be {column}, for the oldest first, or {-column}.")
    return changelist


def _wrong_parameters(request: HttpRequest) -> Iterator[str]:
    """What is wrong with the parameters, in sentences. The list for people ignores or clears what it does not know."""
    for name, values in request.GET.lists():
        if name not in PARAMETERS:
            yield f"There is no parameter “{printable(name, 60)}”. The parameters are {', '.join(PARAMETERS)}."
        elif len(values) > 1:
            yield f"“{name}” is there {len(values)} times, and may be there once."
        elif "\0" in values[0]:
            yield f"“{name}” has a NUL, which no name has."
        elif name in (AFTER, BEFORE) and entry_of(values[0]) is None:
            yield f"“{name}” may be what the address of a next page has."


def _pages(changelist: RecordChangeList) -> Iterator[Rows]:
    queryset: Any = changelist.queryset
    after = None
    while True:
        with translation.override(ENGLISH):
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
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


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
