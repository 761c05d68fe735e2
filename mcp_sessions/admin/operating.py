"""The pages that show what runs now and in which process, and what operators ask of processes there."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions import audit, conf
from mcp_sessions.admin import common
from mcp_sessions.audit.models import DONE, UNCONFIRMED
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import CallCancelled, DrainAsked
from mcp_sessions.inventory import display
from mcp_sessions.inventory.nodes import RunningCall, ServingNode, nodes_of, running_in
from mcp_sessions.inventory.principals import names_of

if TYPE_CHECKING:
    from mcp_sessions.admin import MCPSessionAdmin

#: What a client hears that an operator tries.
TEST_NOTIFICATION = "This is a test notification from an operator of the server."
#: Milliseconds of lag of an event loop from which on it is called slow.
SLOW_LOOP_MS = 200
_DRAINS: Final = gettext_lazy("Process %(process)s on %(host)s takes on nothing new.")
_DRAINS_NO_LONGER: Final = gettext_lazy(
    "Process %(process)s on %(host)s takes on sessions and streams again."
)
_DRAINS_LATER: Final = gettext_lazy(
    "Process %(process)s on %(host)s gives no sign of life. It hears of that if it goes on."
)
#: A process is known by its reports, which Redis loses with other data until the next ones.
_UNKNOWN_NODE: Final = gettext_lazy(
    "Nothing was done: Redis knows no such process. It has ended, or Redis has lost its data and hears of it again in "
    "a few seconds."
)


def now_view(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> HttpResponse:
    """What runs now, what has run for longest first. Raises: StoreUnavailable."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    if request.method == "POST":
        return _cancel(modeladmin, request)
    aliases, endpoint, tool = conf.aliases(), request.GET.get("endpoint", ""), request.GET.get("tool", "")
    if endpoint and endpoint not in aliases:
        modeladmin.message_user(
            request, _("There is no endpoint “%(endpoint)s”.") % {"endpoint": endpoint[:60]}, messages.WARNING
        )
        return HttpResponseRedirect(request.path)
    found = nodes_of(common.reach_of(request).there)
    calls = running_in(found)
    context = common.context(modeladmin, request, _("What runs now")) | {
        "calls": [_shown(call) for call in calls if tool in ("", call.tool)],
        "tools": [(name, display.printable(name, 100)) for name in _choices(calls, tool)],
        "tool": tool,
        "endpoint": endpoint,
        "aliases": aliases if len(aliases) > 1 else (),
        "counts": _counts(found),
        "unnamed": sum(node.calls for node in found) - len(calls),
        "can_expire": modeladmin.has_expire_permission(request),
    }
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/now.html", context)


def _choices(calls: Iterable[RunningCall], chosen: str) -> list[str]:
    """The tools to choose from. No address can have what UTF-8 does not: clients name what they call."""
    names = {call.tool for call in calls if display.fits_address(call.tool)}
    return sorted(names | {chosen} - {""})


def _counts(found: Sequence[ServingNode]) -> dict[str, int]:
    alive = [node for node in found if not node.is_silent]
    return {
        "calls": sum(node.calls for node in alive),
        "streams": sum(node.streams for node in alive),
        "listeners": sum(node.listeners for node in alive),
        "silent": len(found) - len(alive),
    }


def _shown(call: RunningCall) -> dict[str, Any]:
    return {
        "call": call,
        "tool": display.printable(call.tool, 100),
        "client": display.client(call.client, call.client_version),
        "since": display.timed(display.lasting(call.began), call.began),
        "short": call.fingerprint[:12],
        "is_session": call.kind == "session",
    }


def _cancel(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> HttpResponse:
    """Cancel the call that the form names."""
    if not modeladmin.has_expire_permission(request):
        raise PermissionDenied
    wanted, by = request.POST.get("cancel", ""), request.user.get_username()
    reach = common.reach_of(request)
    nodes = nodes_of(reach.there)
    found = [call for node in nodes for call in node.running if call.key == wanted]
    if found:
        [call] = found
        cancel(call, by=by)
        text, level = (
            _(
                "Asked to cancel %(tool)s. If it still runs, its client gets the error of a cancelled request."
            ),
            messages.SUCCESS,
        )
        if call.is_silent:
            text, level = (
                _("The node of %(tool)s gives no sign of life. It cancels the call if it goes on."),
                messages.WARNING,
            )
        modeladmin.message_user(request, text % {"tool": display.printable(call.tool, 100)}, level)
    else:
        reported = {node.id for node in nodes if node.started is not None}
        text = _("That call has ended.") if wanted.partition(":")[0] in reported else str(_UNKNOWN_NODE)
        if reach.away:
            text = _("That call has ended, unless it runs at %(endpoints)s, which cannot be reached.")
        modeladmin.message_user(request, text % {"endpoints": ", ".join(reach.away)}, messages.WARNING)
    return HttpResponseRedirect(request.get_full_path())


def cancel(call: RunningCall, *, by: str) -> None:
    """Have its process cancel a call, and write that down.

    Raises: StoreUnavailable; the call may be cancelled all the same.
    """
    asked = call.endpoint, call.principal
    with translation.override(display.ENGLISH):  # it is stored
        name = names_of([asked])[asked].name
    _ask(
        call.endpoint,
        CallCancelled(node=call.node, number=call.number, by=by),
        action="cancel-call",
        by=by,
        fingerprint=call.fingerprint,
        kind=call.kind,
        title=f"{display.printable(call.tool, 100)} of {call.fingerprint[:12]}",
        principal=call.principal,
        principal_name=name,
        client=call.client,
    )


def _ask(alias: str, wish: CallCancelled | DrainAsked, **facts: Any) -> None:
    """Ask a node. That is written down before, as asked, and as done when the store has taken it.

    Raises: StoreUnavailable.
    """
    entry = audit.record(endpoint=alias, outcome=UNCONFIRMED, **facts)
    outside.broadcast(alias, wish)
    entry.outcome = DONE
    entry.save(update_fields=["outcome"])


def notify_view(modeladmin: "MCPSessionAdmin", request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Send the client of a session a notification, so that whoever looks at it there sees that it arrives."""
    if not modeladmin.has_expire_permission(request):
        raise PermissionDenied
    session = modeladmin.get_object(request, fingerprint)
    params = {"level": "info", "logger": "mcp_sessions", "data": TEST_NOTIFICATION}
    if session is not None and session.record.kind == "session":
        # Here, because `manage.py` imports the admin and needs no SDK.
        from mcp_sessions.messages import send

        sent = send(fingerprint, "notifications/message", params, endpoint=session.endpoint)
        words = _("A test notification is on its way: to the client’s open stream, or else to its next one.")
        text, level = (words, messages.SUCCESS) if sent else (_("The session is gone."), messages.WARNING)
        modeladmin.message_user(request, text, level)
    return HttpResponseRedirect(request.path)


def nodes_view(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> HttpResponse:
    """The nodes of all endpoints. Raises: StoreUnavailable."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    aliases = conf.aliases()
    found = nodes_of(common.reach_of(request).there)
    if request.method == "POST":
        return _drain(modeladmin, request, found)
    usual = Counter(node.version for node in found if not node.is_silent).most_common(1)
    context = common.context(modeladmin, request, _("Nodes")) | {
        "nodes": [_row(node, usual[0][0] if usual else "") for node in found],
        "versions": sorted({node.version or _("unknown") for node in found if not node.is_silent}),
        "several": len(aliases) > 1,
        "strangers": sorted({node.endpoint for node in found if node.is_stranger}),
        "silent": sum(node.is_silent for node in found),
        "can_expire": modeladmin.has_expire_permission(request),
    }
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/nodes.html", context)


def _row(node: ServingNode, usual: str) -> dict[str, Any]:
    return {
        "node": node,
        "ago": display.ago(node.seen),
        "silent_for": display.lasting(node.seen),
        "uptime": display.lasting(node.started) if node.started else "",
        "memory": _("%(number)s MiB") % {"number": display.number(node.memory / 1024**2)}
        if node.memory is not None
        else "",
        "other_version": node.version != usual,
        "lag": display.milliseconds(node.lag_ms),
        "skew": _skew(node) if node.is_skewed else "",
        "slow": node.lag_ms >= SLOW_LOOP_MS,
    }


def _skew(node: ServingNode) -> str:
    text = (
        _("clock %(seconds)s s behind that of Redis")
        if node.ahead_ms > 0
        else _("clock %(seconds)s s ahead of that of Redis")
    )
    return text % {"seconds": display.number(abs(node.ahead_ms) / 1000)}


def _drain(modeladmin: "MCPSessionAdmin", request: HttpRequest, found: Sequence[ServingNode]) -> HttpResponse:
    """Ask the process that the form names to take on nothing new, or to do so again."""
    if not modeladmin.has_expire_permission(request):
        raise PermissionDenied
    process, drains = request.POST.get("process", ""), request.POST.get("drains") == "1"
    nodes = [node for node in found if process and node.process == process]
    if nodes:
        drain(nodes, drains=drains, by=request.user.get_username())
        text, level = _DRAINS if drains else _DRAINS_NO_LONGER, messages.SUCCESS
        if any(node.is_silent for node in nodes):
            text, level = _DRAINS_LATER, messages.WARNING
        where = {"process": nodes[0].pid, "host": nodes[0].host}
        modeladmin.message_user(request, str(text) % where, level)
    else:
        modeladmin.message_user(request, str(_UNKNOWN_NODE), messages.WARNING)
    return HttpResponseRedirect(request.path)


def drain(nodes: Sequence[ServingNode], *, drains: bool, by: str) -> None:
    """Have the process of these nodes take on nothing new, or do so again, and write that down.

    Raises: StoreUnavailable; the process may have been asked all the same.
    """
    for node in nodes:
        title = f"process {node.pid} on {node.host}" + ("" if drains else ", no longer")
        wish = DrainAsked(node=node.id, drains=drains, by=by)
        _ask(node.endpoint, wish, action="drain", by=by, title=title)
