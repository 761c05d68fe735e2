"""Ending every session that was opened before now: the page that asks, and what it does."""

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from mcp_sessions import conf
from mcp_sessions.admin import actions, common
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.kinds import counted
from mcp_sessions.jobs import everything
from mcp_sessions.models import MCPSession
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.factory import sync_store_for

if TYPE_CHECKING:
    from mcp_sessions.admin import MCPSessionAdmin


def view(modeladmin: "MCPSessionAdmin", request: HttpRequest) -> HttpResponse:
    """Ask for confirmation, then end the sessions of the chosen endpoints. Raises: StoreUnavailable."""
    if not modeladmin.has_expire_permission(request):
        raise PermissionDenied
    aliases = conf.aliases()
    if request.method == "POST":
        left = failure = None
        chosen = [alias for alias in aliases if alias in request.POST.getlist("endpoint")]
        for alias in chosen:
            try:
                left = _end(modeladmin, request, alias) or left
            except StoreUnavailable as error:  # which is no reason to leave the others
                failure = error
                text = _("The store of “%(endpoint)s” cannot be reached.") % {"endpoint": alias}
                modeladmin.message_user(request, text, messages.ERROR)
        if failure is not None and len(chosen) == 1:
            raise failure
        name = f"admin:{modeladmin.opts.app_label}_{modeladmin.opts.model_name}_changelist"
        return left or HttpResponseRedirect(reverse(name, current_app=modeladmin.admin_site.name))
    there = common.reach_of(request).there
    title = _("End every session that was opened before now")
    context = common.context(modeladmin, request, title) | {
        "endpoints": [
            (alias, _open_sessions(alias) if alias in there else _("cannot be reached now"))
            for alias in aliases
        ]
    }
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/end_all.html", context)


def _open_sessions(alias: str) -> str:
    total = sync_store_for(alias).run(indexes.count(limits=conf.endpoint(alias).limits))
    return counted({"session": total}) if total else _("no open session")


def _end(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, alias: str
) -> HttpResponseRedirect | None:
    """The page of the job if it takes longer."""
    job = everything.begin(alias, by=request.user.get_username(), reason=actions.reason_of(request))
    modeladmin.message_user(
        request,
        _("Session ids that were given out before now are unknown to every node of “%(endpoint)s”.")
        % {"endpoint": alias},
        messages.SUCCESS,
    )
    actions.log(request, job, f"End of all sessions of {alias}, job {job.pk}.")
    return actions.carry_out(
        modeladmin,
        request,
        job,
        lambda job: (
            _("Ended %(sessions)s of the endpoint “%(endpoint)s”.")
            % {"sessions": counted({"session": job.ended}), "endpoint": alias}
            if job.ended
            else ""
        ),
    )
