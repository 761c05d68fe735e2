"""The filters beside the list of records. They combine; each is one that an index serves."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.inventory.display import duration, fits_address, printable
from mcp_sessions.inventory.doing import NARROWED
from mcp_sessions.inventory.kinds import LABELLED, NAMES
from mcp_sessions.inventory.principals import is_known_principal, principal_named
from mcp_sessions.inventory.surroundings import Surroundings, surroundings
from mcp_sessions.records import ANONYMOUS, KINDS

#: Clients offered as a filter, last seen first. The others can be searched for.
MAX_CLIENTS: Final = 15

ENDPOINT: Final = "endpoint"
KIND: Final = "kind"
USER: Final = "user"
ACTIVITY: Final = "activity"
STATE: Final = "state"

#: "last-900": used within so many seconds; "idle-900": not used within them.
_WINDOW: Final = re.compile(r"(last|idle)-([0-9]{1,9})\Z")
#: Where what was read for a request is kept.
_KEPT: Final = "_mcp_sessions_surroundings"


def chosen_aliases(request: HttpRequest) -> tuple[str, ...]:
    """The endpoints that the list shows. Raises: StoreUnavailable if none of them answers."""
    chosen = request.GET.get(ENDPOINT)
    return tuple(alias for alias in common.reach_of(request).there if chosen in (None, alias))


def surroundings_of(request: HttpRequest) -> Mapping[str, Surroundings]:
    """What is at each endpoint, read once for a request. Raises: StoreUnavailable."""
    known: Mapping[str, Surroundings] | None = getattr(request, _KEPT, None)
    if known is None:
        known = surroundings(chosen_aliases(request))
        setattr(request, _KEPT, known)
    return known


def problems(request: HttpRequest) -> Iterator[str]:
    """What is wrong with the filters in the address, in sentences. They say which users exist: see who asks first."""
    for parameter, allowed in ((ENDPOINT, conf.aliases()), (KIND, KINDS), (STATE, tuple(NARROWED))):
        if (value := request.GET.get(parameter)) is not None and value not in allowed:
            yield _("There is no %(parameter)s “%(value)s”. “%(parameter)s” may be %(allowed)s.") % {
                "parameter": parameter,
                "allowed": ", ".join(allowed),
                "value": printable(value, 60),
            }
    if (user := request.GET.get(USER)) and not is_known_principal(principal_named(user)):
        yield _(
            "There is no user “%(user)s”. “%(parameter)s” may be a user name, %(anonymous)s, or a principal as the "
            "page of a record shows it."
        ) % {"user": printable(user, 60), "parameter": USER, "anonymous": ANONYMOUS}
    if (activity := request.GET.get(ACTIVITY)) is not None and not _WINDOW.match(activity):
        yield _(
            "There is no filter by activity “%(activity)s”. “%(parameter)s” may be last- or idle- and a number of "
            "seconds, such as last-900."
        ) % {"activity": printable(activity, 60), "parameter": ACTIVITY}


class _Filter(SimpleListFilter):
    """One condition in the address; offered only if there is a choice."""

    #: The parameter in the address, and those that a choice here removes from it.
    parameter_name: str
    replaces: tuple[str, ...] = ()
    #: The lookup that the chosen value is for.
    lookup: str

    def has_output(self) -> bool:
        """Also if the address has a value that is not offered: it counts, and is shown."""
        return self.value() is not None or super().has_output()

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset if value is None else queryset.filter(**{self.lookup: value})

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        removed = [self.parameter_name, *self.replaces]
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=removed),
            "display": _("All"),
        }
        for value, title in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}, remove=removed),
                "display": title,
            }


class EndpointFilter(_Filter):
    """Which endpoint; hidden if there is only one."""

    title = gettext_lazy("endpoint")
    parameter_name = ENDPOINT
    lookup = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        aliases, value = conf.aliases(), request.GET.get(ENDPOINT)
        offered = aliases if len(aliases) > 1 or value is not None else ()
        return [(alias, printable(alias, 40)) for alias in _with_current(offered, value)]


class KindFilter(_Filter):
    """Which kind of records."""

    title = gettext_lazy("kind")
    parameter_name = KIND
    replaces = ("label",)
    lookup = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, capfirst(str(NAMES[kind][1]))) for kind in KINDS]


class LabelFilter(_Filter):
    """Which kind of handle, or which key of conversations; those of the records on the page are offered.

    Hidden unless one of these kinds was chosen.
    """

    title = gettext_lazy("label")
    parameter_name = "label"
    lookup = "label"
    #: Kind of record -> what the label is for it.
    titles: Final = {
        "handle": gettext_lazy("kind of handle"),
        "conversation": gettext_lazy("key"),
    }
    is_offered = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        for kind in LABELLED:
            if request.GET.get(KIND) == kind:
                self.title, self.is_offered = self.titles[kind], True
        return []

    def has_output(self) -> bool:
        return self.is_offered or self.value() is not None

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        labels = {row.record.label for row in changelist.result_list}
        offered = _with_current(sorted(label for label in labels if fits_address(label)), self.value())
        self.lookup_choices = [(label, printable(label, 40)) for label in offered]
        return super().choices(changelist)


class ClientFilter(_Filter):
    """Which client program, by name; recently seen ones are offered."""

    title = gettext_lazy("client")
    parameter_name = "client"
    lookup = "client_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen = [name for each in surroundings_of(request).values() for name in each.clients]
        names = list(dict.fromkeys(name for name in seen if fits_address(name)))[:MAX_CLIENTS]
        current = request.GET.get(self.parameter_name)
        return [(name, printable(name, 30) or _("(no name)")) for name in _with_current(names, current)]


class ProtocolFilter(_Filter):
    """Which protocol version the client speaks."""

    title = gettext_lazy("protocol")
    parameter_name = "protocol"
    lookup = "protocol_version"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Not at the top: every process of the project imports this module, and few need the SDK.
        from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

        newest_first = reversed(KNOWN_PROTOCOL_VERSIONS)
        current = request.GET.get(self.parameter_name)
        return [(version, printable(version, 30)) for version in _with_current(newest_first, current)]


class UserFilter(_Filter):
    """Whose records: of exactly one user, by name, or of one other principal as a record's page shows it."""

    title = gettext_lazy("user")
    parameter_name = USER
    lookup = "principal"
    template = "admin/mcp_sessions/mcpsession/user_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        offered = _with_current([ANONYMOUS], request.GET.get(USER) or None)
        return [
            (name, capfirst(_("anonymous")) if name == ANONYMOUS else printable(name, 40)) for name in offered
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset if not value else queryset.filter(principal=principal_named(value))

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        yield from super().choices(changelist)
        #: For the form, which keeps the other filters, the search and the order.
        self.kept = [
            (name, value)
            for name, value in changelist.params.items()
            if name not in (USER, "after", "before")
        ]


class ActivityFilter(_Filter):
    """When the record was last used, in parts of the idle TTL: a session that is older than that is over."""

    title = gettext_lazy("last activity")
    parameter_name = ACTIVITY

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = chosen_aliases(request) or conf.aliases()
        idle = max((conf.endpoint(alias).limits.idle_ms for alias in chosen), default=3_600_000) // 1000
        offered = [
            *(f"last-{seconds}" for seconds in dict.fromkeys(_round(idle / part) for part in (60, 12, 4))),
            f"idle-{_round(idle / 2)}",
        ]
        current = request.GET.get(ACTIVITY)
        return [(each, _window_title(each)) for each in _with_current(offered, current)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        window = _WINDOW.match(value)
        if window is None:
            return queryset.none()
        moments = [each.now_ms / 1000 for each in surroundings_of(request).values()] or [time.time()]
        # Where the clocks of several stores differ, fewer records are meant: they may be about to end.
        lookup, now = (
            ("last_activity__gte", max(moments))
            if window[1] == "last"
            else ("last_activity__lt", min(moments))
        )
        since = datetime.fromtimestamp(now, UTC) - timedelta(seconds=int(window[2]))
        return queryset.filter(**{lookup: since})


class DoingFilter(_Filter):
    """What the record does now, as far as the nodes report it by name."""

    title = gettext_lazy("state")
    parameter_name = STATE

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, str(title)) for word, (title, _find) in NARROWED.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        if value not in NARROWED:
            return queryset.none()
        found = (NARROWED[value][1](each.nodes, each.now_ms) for each in surroundings_of(request).values())
        return queryset.among(chain.from_iterable(found))


def _round(seconds: float) -> int:
    """A duration as people say it: whole minutes, hours or days, if it is that long."""
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= unit), 1)
    return max(1, round(seconds / unit)) * unit


def _window_title(value: str) -> str:
    window = _WINDOW.match(value)
    if window is None:
        return printable(value, 30)
    words = duration(timedelta(seconds=int(window[2])))
    text = _("In the last %(duration)s") if window[1] == "last" else _("Not in the last %(duration)s")
    return text % {"duration": words}


def _with_current(values: Iterable[str], current: str | None) -> list[str]:
    """The values, and the current one, which may no longer be among them."""
    values = list(values)
    return values if current is None or current in values else [*values, current]
