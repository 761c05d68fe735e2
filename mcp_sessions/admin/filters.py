"""The filters beside the list of sessions: what an index serves, and no more."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.inventory.display import printable
from mcp_sessions.inventory.queryset import SessionRelation
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.factory import sync_store_for

#: Clients offered as a filter, last seen first; the others are found by searching.
MAX_CLIENTS: Final = 15
#: Protocol versions that have sessions (the handshake era), newest first.
PROTOCOLS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")

ENDPOINT: Final = "endpoint"
_ONE_OF: Final = ("client", "protocol")


def chosen_aliases(request: HttpRequest) -> tuple[str, ...]:
    """The endpoints that the list shows."""
    chosen = request.GET.get(ENDPOINT)
    return tuple(alias for alias in conf.aliases() if chosen in (None, alias))


class _Filter(SimpleListFilter):
    """One condition in the address; offered only if there is a choice."""

    #: The parameter in the address, and those that choosing here takes away.
    parameter_name: str
    replaces: tuple[str, ...] = ()

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset if value is None else self.narrow(queryset, value)

    def narrow(self, sessions: SessionRelation, value: str) -> SessionRelation:
        """The sessions that meet the condition."""
        raise NotImplementedError

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
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
    """Which endpoint; nothing to choose with one."""

    title = "endpoint"
    parameter_name = ENDPOINT

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        aliases = conf.aliases()
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 else []

    def narrow(self, sessions: SessionRelation, value: str) -> SessionRelation:
        return sessions.filter(endpoint=value)


class ClientFilter(_Filter):
    """Which client program, by its name; those seen lately are offered."""

    title = "client"
    parameter_name = "client"
    replaces = tuple(name for name in _ONE_OF if name != "client")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen = (
            name for alias in chosen_aliases(request) for name in sync_store_for(alias).run(indexes.clients())
        )
        names = list(dict.fromkeys(name for name in seen if _fits_address(name)))[:MAX_CLIENTS]
        return [(name, printable(name, 30) or "(no name)") for name in _with_current(names, self.value())]

    def narrow(self, sessions: SessionRelation, value: str) -> SessionRelation:
        return sessions.filter(client_name=value)


class ProtocolFilter(_Filter):
    """Which protocol version was negotiated."""

    title = "protocol"
    parameter_name = "protocol"
    replaces = tuple(name for name in _ONE_OF if name != "protocol")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(version, printable(version, 30)) for version in _with_current(PROTOCOLS, self.value())]

    def narrow(self, sessions: SessionRelation, value: str) -> SessionRelation:
        return sessions.filter(protocol_version=value)


class ActivityFilter(_Filter):
    """When something last happened."""

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

    def narrow(self, sessions: SessionRelation, value: str) -> SessionRelation:
        if value not in self.ages:
            return sessions.none()
        _, lookup, age = self.ages[value]
        return sessions.filter(**{lookup: timezone.now() - age})


def _with_current(values: Iterable[str], current: str | None) -> list[str]:
    values = list(values)
    return values if current is None or current in values else [*values, current]


def _fits_address(name: str) -> bool:
    """Whether a name survives an address: JSON can carry lone surrogates, UTF-8 cannot."""
    return name == name.encode("utf-8", "replace").decode("utf-8")
