"""Blocks: who is refused for a time, as an operator has said."""

from typing import Final, Literal, get_args

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from mcp_sessions.authentication.addresses import networks_of, parsed
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.texts import readable

#: What is blocked: a principal, the name that a client calls itself, or an address or network.
BlockKind = Literal["principal", "client", "address"]
BLOCK_KINDS: Final[tuple[BlockKind, ...]] = get_args(BlockKind)
BLOCK_WORDS: Final[dict[BlockKind, Promise]] = {
    "principal": gettext_lazy("principal"),
    "client": gettext_lazy("client"),
    "address": gettext_lazy("address"),
}


class BlockQuerySet(models.QuerySet["Block"]):
    """Blocks."""

    def active(self) -> "BlockQuerySet":
        """Those that hold now."""
        return self.filter(Q(expires=None) | Q(expires__gt=timezone.now()), lifted=None)


class Block(models.Model):
    """One principal, client name or address that is refused."""

    kind = models.CharField(gettext_lazy("what"), max_length=16, choices=list(BLOCK_WORDS.items()))
    #: As `texts.storable` has it.
    value = models.TextField(
        gettext_lazy("value"),
        help_text=gettext_lazy(
            "A principal as records show it, a client's exact name, an IP address or a network."
        ),
    )
    endpoint = models.CharField(
        gettext_lazy("endpoint"),
        max_length=255,
        blank=True,
        help_text=gettext_lazy("The key in MCP_SESSIONS. Empty: every endpoint."),
    )
    reason = models.CharField(
        gettext_lazy("reason"),
        max_length=200,
        blank=True,
        help_text=gettext_lazy("For operators. Clients do not see it."),
    )
    by = models.CharField(gettext_lazy("by"), max_length=255, editable=False)
    created = models.DateTimeField(gettext_lazy("created"), default=timezone.now, editable=False)
    expires = models.DateTimeField(
        gettext_lazy("expires"), null=True, blank=True, help_text=gettext_lazy("Empty: until it is lifted.")
    )
    lifted = models.DateTimeField(gettext_lazy("lifted"), null=True, editable=False)

    objects = BlockQuerySet.as_manager()

    class Meta:
        app_label = "mcp_sessions"
        ordering = ("-created", "-pk")
        verbose_name = gettext_lazy("block")
        verbose_name_plural = gettext_lazy("blocks")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {readable(self.value)}"

    def clean(self) -> None:
        """Raises: ValidationError, as Django's forms expect it."""
        try:
            self.value = checked(self.kind, self.value)
        except ValueError as error:
            raise ValidationError({"value": str(error)}) from None

    @property
    def state(self) -> str:
        """In a word: "lifted", "expired" or "active"."""
        if self.lifted is not None:
            return "lifted"
        return "expired" if self.expires is not None and self.expires <= timezone.now() else "active"


def checked(kind: str, value: str) -> str:
    """A value in the form that is compared. Raises: ValueError for one that does not fit, with what would."""
    value = value.strip() if kind == "address" else value
    if kind not in BLOCK_KINDS or not value:
        raise ValueError(f"A block names one of {', '.join(BLOCK_KINDS)}, and its value.")
    if kind == "principal" and value == ANONYMOUS:
        raise ValueError("Everybody without credentials is anonymous. REQUIRE_USER refuses all of them.")
    if kind == "address":
        address = parsed(value)
        try:
            return str(networks_of((value,))[0] if address is None else address)
        except ValueError:
            raise ValueError(f"{value} is no IP address, and no network such as 192.0.2.0/24.") from None
    return value
