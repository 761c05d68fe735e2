"""The list of records as Django's admin shows it: pages by cursors, counts that say whether they are exact."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList
from django.db.models import Model
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.translation import gettext as _

from mcp_sessions.admin import common, filters
from mcp_sessions.inventory.doing import doing_of
from mcp_sessions.inventory.kinds import counted, counted_records
from mcp_sessions.inventory.listing import LocatedPage, entry_of, entry_text
from mcp_sessions.records import Kind

#: In the address: behind, and before, which record the page is.
AFTER: Final = "after"
BEFORE: Final = "before"


class RecordChangeList(ChangeList):
    """Reads the page and its total together, so that a page costs the same however many records there are."""

    #: The page that is shown, and for whom.
    page: LocatedPage
    request: HttpRequest
    #: The query string of a record's page that leads back here.
    _kept_filters: str

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in (AFTER, BEFORE)}

    def get_query_string(
        self, new_params: dict[str, Any] | None = None, remove: Iterable[str] | None = None
    ) -> str:
        """The same list from its beginning, unless the new parameters say which page."""
        # `remove` drops everything that begins so.
        params = {AFTER: None, BEFORE: None, **(new_params or {})}
        return super().get_query_string(params, list(remove or ()))

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[str | Combinable]:
        """By last activity, whatever else an address asks for."""
        ascending = request.GET.get(ORDER_VAR) == str(self.activity_column)
        return ["last_activity" if ascending else "-last_activity"]

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        ascending = self.params.get(ORDER_VAR) == str(self.activity_column)
        return {self.activity_column: "asc" if ascending else "desc"}

    def get_results(self, request: HttpRequest) -> None:
        after, before = (entry_of(request.GET.get(name)) for name in (AFTER, BEFORE))
        # What Django would add to the address of each row looks that up in the site's URLs once more.
        self._kept_filters, self.preserved_filters = self.preserved_filters, ""
        limit = self.list_per_page
        found = self.queryset.read_page(limit=limit, after=after, before=before)
        if before is not None and found.of.before is None and len(found.rows) < limit:
            # The first page, which is full if there is more.
            found = self.queryset.read_page(limit=limit)
        self.request = request
        self.page = found.of
        self.result_list = found.rows
        around = filters.surroundings_of(request)
        doing = doing_of(node for each in around.values() for node in each.nodes)
        for row in found.rows:
            row.doing = doing.get(row.pk)
        self.result_count = found.of.total
        self.full_result_count = None
        self.show_admin_actions = bool(found.rows)
        self.can_show_all = False
        self.multi_page = found.of.before is not None or found.of.after is not None

    def url_for_result(self, result: Model) -> str:
        """The address of a record's page, which every site has that has this list, and the way back to this page."""
        address = common.page_of(self.model_admin, self.model, result.pk)
        return f"{address}?{self._kept_filters}" if self._kept_filters else str(address)

    @property
    def activity_column(self) -> int:
        """The number of the only column that the list can be sorted by. It depends on who asks."""
        return list(self.list_display).index("activity")

    @property
    def is_narrowed(self) -> bool:
        return bool(self.query or self.has_active_filters)

    @property
    def counted(self) -> str:
        """How many records match, in words."""
        total = self.page.total
        words = counted(self.page.counts) if total else counted_records(0)
        return words if self.page.exact else _("at least %(records)s") % {"records": words}

    @property
    def everything(self) -> str:
        """How many records there are, whatever the filters."""
        counts: Counter[Kind] = Counter()
        for each in filters.surroundings_of(self.request).values():
            counts.update(each.counts)
        return counted(counts)

    @property
    def goes_on(self) -> bool:
        """Whether this page is not full although the search has not come to an end."""
        return self.page.after is not None and len(self.page.rows) < self.list_per_page

    @property
    def unsearched(self) -> str:
        """The query string of the list without the search."""
        return self.get_query_string(remove=[SEARCH_VAR])

    @property
    def first_page(self) -> str:
        """The address of the first page; empty on it."""
        return "" if self.page.before is None else self.get_query_string()

    @property
    def previous_page(self) -> str:
        before = self.page.before
        return "" if before is None else self.get_query_string({BEFORE: entry_text(before)})

    @property
    def next_page(self) -> str:
        after = self.page.after
        return "" if after is None else self.get_query_string({AFTER: entry_text(after)})

    @property
    def other_order(self) -> tuple[str, str]:
        """The address of the list in the other order, and what that is called."""
        column = self.activity_column
        if self.get_ordering_field_columns()[column] == "asc":
            return self.get_query_string(remove=[ORDER_VAR]), _("Newest first")
        return self.get_query_string({ORDER_VAR: str(column)}), _("Oldest first")
