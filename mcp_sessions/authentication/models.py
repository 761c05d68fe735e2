"""Personal access tokens: what users create for their own MCP clients."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy

from mcp_sessions.texts import storable

#: How every token begins, so that people and secret scanners recognize it.
MARK: Final = "mcps_"
#: Letters behind the mark by which a token is listed, and characters of both together.
_PREFIX_LETTERS: Final = 8
PREFIX_CHARS: Final = len(MARK) + _PREFIX_LETTERS
#: How long a token is accepted unless its maker says otherwise.
DEFAULT_LIFETIME: Final = timedelta(days=90)


class PersonalToken(models.Model):
    """A bearer token of one user. Its text is shown once, when it is made; only the SHA-256 of it is stored."""

    prefix = models.CharField(gettext_lazy("token"), max_length=32, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="mcp_personal_tokens",
        verbose_name=gettext_lazy("user"),
    )
    name = models.CharField(
        gettext_lazy("name"),
        max_length=100,
        blank=True,
        help_text=gettext_lazy("What it is for, such as the client's name."),
    )
    scopes = models.CharField(
        gettext_lazy("scopes"),
        max_length=1000,
        blank=True,
        help_text=gettext_lazy("What REQUIRED_SCOPES ask for, separated by spaces."),
    )
    endpoint = models.CharField(
        gettext_lazy("endpoint"),
        max_length=255,
        blank=True,
        help_text=gettext_lazy("The key in MCP_SESSIONS. Empty: every endpoint."),
    )
    created = models.DateTimeField(gettext_lazy("created"), default=timezone.now, editable=False)
    expires = models.DateTimeField(
        gettext_lazy("expires"), null=True, blank=True, help_text=gettext_lazy("Empty: never.")
    )
    last_used = models.DateTimeField(
        gettext_lazy("last used"), null=True, editable=False, help_text=gettext_lazy("To the minute.")
    )
    revoked = models.DateTimeField(gettext_lazy("revoked"), null=True, editable=False)

    class Meta:
        app_label = "mcp_sessions"
        ordering = ("-created", "-pk")
        verbose_name = gettext_lazy("personal token")
        verbose_name_plural = gettext_lazy("personal tokens")

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})" if self.name else f"{self.prefix}…"

    @property
    def credential(self) -> str:
        """What sessions remember that were opened with it."""
        return f"personal token {self.prefix}"

    @property
    def state(self) -> str:
        """In a word: "revoked", "expired" or "active"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= timezone.now() else "active"

    def issue(self) -> str:
        """Give the token, which is not saved yet, a new text. It is returned and cannot be found out again.

        Behind its mark and prefix it has 256 bits from the operating system's secure random source.
        """
        self.prefix = MARK + "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX_LETTERS))
        text = f"{self.prefix}_{secrets.token_urlsafe(32)}"
        self.digest = digest_of(text)
        return text


def from_now(duration: timedelta) -> datetime:
    """The moment so long from now, as a database has it: without a time zone where USE_TZ is False.

    The clocks of such a database may be put forward or back in between.
    """
    moment = datetime.now(UTC) + duration
    return moment if settings.USE_TZ else datetime.fromtimestamp(moment.timestamp())  # noqa: DTZ006 - as Django's now


#: No letters that look alike.
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"


def digest_of(text: str) -> str:
    """What is stored of a token. It has 256 random bits, so a fast hash is enough: nobody can guess the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(
    user: Any,
    *,
    name: str = "",
    scopes: str = "",
    endpoint: str = "",
    expires: datetime | None = None,
) -> tuple[PersonalToken, str]:
    """Make a token for a user, and its text. `expires=None` is for one that never expires."""
    token = PersonalToken(user=user, name=storable(name), scopes=scopes, endpoint=endpoint, expires=expires)
    text = token.issue()
    token.save()
    return token, text
