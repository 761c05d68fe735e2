"""The filters beside the list of records. Each is one that an index serves."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.http import HttpRequest
from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.inventory.display import printable
from mcp_sessions.inventory.kinds import LABELLED, listed
from mcp_sessions.records import KINDS, WORDS, Kind
from mcp_sessions.store.calls import indexes, queries
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for

#: Clients offered as a filter, last seen first. The others can be searched for.
MAX_CLIENTS: Final = 15

#: How many of the last used records the labels are taken from that are offered.
LABELS_DEPTH: Final = 200

ENDPOINT: Final = "endpoint"
KIND: Final = "kind"


def chosen_aliases(request: HttpRequest) -> tuple[str, ...]:
    """The endpoints that the list shows."""
    chosen = request.GET.get(ENDPOINT)
    return tuple(alias for alias in conf.aliases() if chosen in (None, alias))


def fallback(request: HttpRequest) -> tuple[str, str]:
    """The address to show instead of one that no index serves, and a sentence about what it leaves out.

    The filters by client, protocol and label exclude each other and most searches. They are removed, and the search
    stays. If there are none, the page is too deep. Otherwise the address is wrong in some other way, and nothing of it
    stays.
    """
    query = request.GET.copy()
    filters = (ClientFilter, ProtocolFilter, LabelFilter)
    dropped = [each.parameter_name for each in filters if each.parameter_name in query]
    if dropped:
        were = "filter by {} was" if len(dropped) == 1 else "filters by {} were"
        consequence = f"The {were.format(listed(dropped))} removed."
    elif PAGE_VAR in query:
        consequence = "This is the first page. To go on to the end, choose one kind and one endpoint."
    else:
        return request.path, "The filters were cleared."
    for name in (*dropped, PAGE_VAR):
        query.pop(name, None)
    return f"{request.path}?{query.urlencode()}".rstrip("?"), consequence


class _Filter(SimpleListFilter):
    """One condition in the address; offered only if there is a choice."""

    #: The parameter in the address, those that a choice here removes from it, and those that "All" removes.
    parameter_name: str
    replaces: tuple[str, ...] = ()
    clears: tuple[str, ...] = ()
    #: The lookup that the chosen value is for.
    lookup: str

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset if value is None else queryset.filter(**{self.lookup: value})

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name, *self.clears]),
            "display": "All",
        }
        for value, title in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value}, remove=[*self.replaces]
                ),
                "display": title,
            }


class EndpointFilter(_Filter):
    """Which endpoint; hidden if there is only one."""

    title = "endpoint"
    parameter_name = ENDPOINT
    lookup = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        aliases = conf.aliases()
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 else []


class KindFilter(_Filter):
    """Which kind of records."""

    title = "kind"
    parameter_name = KIND
    replaces = clears = ("label",)
    lookup = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, WORDS[kind][1].capitalize()) for kind in KINDS]


class LabelFilter(_Filter):
    """Which kind of handle, or which key of conversations; those of records that were used lately are offered.

    Hidden unless one of these kinds was chosen.
    """

    title = "label"
    parameter_name = "label"
    replaces = ("client", "protocol")  # no index serves two of them
    lookup = "label"
    #: Kind of record -> what the label is for it.
    titles: Final[dict[Kind, str]] = {"handle": "kind of handle", "conversation": "key"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels: dict[str, None] = {}
        for kind in LABELLED:
            if request.GET.get(KIND) == kind:
                self.title = self.titles[kind]
                labels = dict.fromkeys(_labels_of(kind, chosen_aliases(request)))
        shown = _with_current(sorted(label for label in labels if _fits_address(label)), self.value())
        return [(label, printable(label, 40)) for label in shown]


class ClientFilter(_Filter):
    """Which client program, by name; recently seen ones are offered."""

    title = "client"
    parameter_name = "client"
    replaces = ("protocol", "label")  # no index serves two of them
    lookup = "client_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen: list[str] = []
        for alias in chosen_aliases(request):
            seen += sync_store_for(alias).run(indexes.clients(limits=conf.endpoint(alias).limits))
        names = list(dict.fromkeys(name for name in seen if _fits_address(name)))[:MAX_CLIENTS]
        return [(name, printable(name, 30) or "(no name)") for name in _with_current(names, self.value())]


class ProtocolFilter(_Filter):
    """Which protocol version the client speaks."""

    title = "protocol"
    parameter_name = "protocol"
    replaces = ("client", "label")
    lookup = "protocol_version"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Not at the top: every process of the project imports this module, and few need the SDK.
        from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

        newest_first = reversed(KNOWN_PROTOCOL_VERSIONS)
        return [(version, printable(version, 30)) for version in _with_current(newest_first, self.value())]


class ActivityFilter(_Filter):
    """When the record was last used."""

    title = "last activity"
    parameter_name = "activity"

    #: Value in the address -> title, lookup, age.
    ages: Final = {
        "5m": ("Last 5 minutes", "last_activity__gte", timedelta(minutes=5)),
        "1h": ("Last hour", "last_activity__gte", timedelta(hours=1)),
        "1d": ("Last day", "last_activity__gte", timedelta(days=1)),
        "idle": ("More than an hour ago", "last_activity__lt", timedelta(hours=1)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, title) for value, (title, _, _) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        if value not in self.ages:
            return queryset.none()
        _, lookup, age = self.ages[value]
        return queryset.filter(**{lookup: timezone.now() - age})


def _labels_of(kind: Kind, aliases: Iterable[str]) -> Iterator[str]:
    for alias in aliases:
        read = queries.page(
            Query(kind=kind), limits=conf.endpoint(alias).limits, offset=0, limit=LABELS_DEPTH
        )
        for record in sync_store_for(alias).run(read).sessions:
            yield record.label


def _with_current(values: Iterable[str], current: str | None) -> list[str]:
    """The values, and the current one, which may no longer be among them."""
    values = list(values)
    return values if current is None or current in values else [*values, current]


def _fits_address(name: str) -> bool:
    """Whether a name can be part of a URL: JSON can carry lone surrogates, UTF-8 cannot."""
    return name == name.encode("utf-8", "replace").decode("utf-8")
