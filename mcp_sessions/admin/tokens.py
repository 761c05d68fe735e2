"""Personal access tokens in the admin: make one, whose text is shown once, and revoke them."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import Field, ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions.admin import common
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.display import number
from mcp_sessions.models import PersonalToken
from mcp_sessions.tokens import DEFAULT_LIFETIME, revoke_token

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[PersonalToken]
else:
    ModelAdmin = admin.ModelAdmin


@admin.action(permissions=["change"], description=gettext_lazy("Revoke selected personal tokens"))
def revoke(
    modeladmin: "PersonalTokenAdmin", request: HttpRequest, queryset: "QuerySet[PersonalToken]"
) -> None:
    """Refuse the tokens from now on, on every node.

    Of those that are revoked already, what was opened with them ends: the store may have been away before.
    """
    revoked = ended = 0
    failure: StoreUnavailable | None = None
    for token in queryset:
        if token.revoked is None:
            modeladmin.log_change(request, token, "Revoked.")
            revoked += 1
        try:
            ended += revoke_token(token, by=request.user.get_username())
        except StoreUnavailable as error:
            failure = error
    if failure is not None:
        text = _(
            "They are revoked, but not all of their sessions could be ended: %(error)s. Revoke them again when Redis "
            "answers."
        ) % {"error": failure}
        modeladmin.message_user(request, text, messages.ERROR)
    text = _("Tokens revoked: %(tokens)s.")
    if ended:
        text = ngettext(
            "Tokens revoked: %(tokens)s, and %(sessions)s of their sessions ended.",
            "Tokens revoked: %(tokens)s, and %(sessions)s of their sessions ended.",
            ended,
        )
    text %= {"tokens": number(revoked), "sessions": number(ended)}
    modeladmin.message_user(request, text, messages.SUCCESS)


@admin.register(PersonalToken)
class PersonalTokenAdmin(ModelAdmin):
    """Whoever may add tokens makes them for themselves; only superusers make them for others.

    Otherwise the permission to add tokens would be the permission to act as anybody.
    """

    actions = (revoke,)
    list_display = ("prefix", "user", "name", "scopes", "endpoint", "state", "last_used", "expires")
    list_filter = ("revoked", "last_used")
    list_select_related = ("user",)
    fields = ("user", "name", "scopes", "endpoint", "expires")
    search_help_text = gettext_lazy("Search by the beginning of the token, its name or its user.")

    class Media:
        css: Final = {"all": ("mcp_sessions/admin.css",)}

    @admin.display(description=gettext_lazy("state"))
    def state(self, obj: PersonalToken) -> str:
        return str(common.STATES[obj.state])

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("prefix__startswith", "name", f"user__{get_user_model().USERNAME_FIELD}")

    def get_fields(self, request: HttpRequest, obj: PersonalToken | None = None) -> tuple[str, ...]:
        return (
            self.fields
            if obj is None
            else ("prefix", *self.fields, "state", "created", "last_used", "revoked")
        )

    def get_readonly_fields(self, request: HttpRequest, obj: PersonalToken | None = None) -> tuple[str, ...]:
        """Only the name of a token can be changed."""
        return () if obj is None else tuple(each for each in self.get_fields(request, obj) if each != "name")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        allowed = super().lookup_allowed(lookup, value, request) and common.fits(value)
        return allowed and common.fits_key(lookup, "user", value)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        until: datetime = timezone.now().replace(microsecond=0) + DEFAULT_LIFETIME
        return {"user": str(request.user.pk), "expires": until}

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = get_user_model()._default_manager.filter(pk__in=[request.user.pk])
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "endpoint":
            return common.endpoint_field(db_field)
        return common.labelled(super().formfield_for_dbfield(db_field, request, **kwargs))

    def save_model(self, request: HttpRequest, obj: PersonalToken, form: Any, change: bool) -> None:
        if not change:
            request.mcp_token_text = obj.issue()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: PersonalToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page that shows the text, this once. It is in no redirect, cookie or message."""
        shown = common.context(self, request, _("The new personal token"))
        shown |= {"token": obj, "text": request.mcp_token_text}  # type: ignore[attr-defined]
        response = TemplateResponse(request, "admin/mcp_sessions/personaltoken/made.html", shown)
        add_never_cache_headers(response)
        return response
