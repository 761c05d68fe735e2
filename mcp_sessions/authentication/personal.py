"""Personal access tokens as an authenticator. The database is asked about a token each time (`questions`)."""

import asyncio
import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop

from mcp_sessions.authentication.authenticator import Authenticator, bearer_token
from mcp_sessions.authentication.identity import Identity, of_user
from mcp_sessions.authentication.models import MARK, PersonalToken, digest_of
from mcp_sessions.authentication.questions import Questions, still_good
from mcp_sessions.authentication.threads import in_thread
from mcp_sessions.authentication.users import whose_user_is_active
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import AuthenticationUnavailable, CredentialsRefused
from mcp_sessions.transport.asgi import Scope

logger = logging.getLogger(__name__)

#: How exact `last_used` is: it is written at most so often.
USED: Final = timedelta(minutes=1)


class PersonalTokenAuthenticator(Authenticator):
    """`personal-token`: tokens that users have made in the admin, or with `manage.py mcp_sessions token create`."""

    advice = gettext_noop("Send a personal access token in Authorization: Bearer.")
    recheck_seconds: ClassVar[float] = 1.0

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        if not apps.is_installed("django.contrib.auth"):
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] authenticates by personal-token, and needs django.contrib.auth."
            )
        self._questions = Questions(_good, self._note)
        self._noting: asyncio.Task[None] | None = None

    async def authenticate(self, scope: Scope) -> Identity | None:
        text = bearer_token(scope)
        if text is None or not text.startswith(MARK):
            return None
        token = await self._questions.ask(digest_of(text))
        if token is None or token.endpoint not in ("", self.conf.alias):
            raise CredentialsRefused(
                "This personal access token is not accepted: unknown, expired, revoked, for another endpoint, or of a "
                "user who is not active."
            )
        return of_user(
            token.user,
            scopes=frozenset(token.scopes.split()),
            expires_at=None if token.expires is None else token.expires.timestamp(),
            credential=token.credential,
            source=self,
            key=token.pk,
        )

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        return await still_good(identities, _still_good)

    def _note(self, found: Collection[PersonalToken]) -> None:
        """Write when tokens were used, behind the requests. If that fails, the next minute tries again."""
        now = timezone.now()
        used = [each.pk for each in found if each.last_used is None or now - each.last_used >= USED]
        if used and self._noting is None:
            self._noting = asyncio.create_task(self._write(used))

    async def _write(self, pks: list[int]) -> None:
        try:
            await in_thread(partial(_note_use, pks))
        except AuthenticationUnavailable as error:
            logger.info("The last use of personal tokens is not noted: %s", error)
        finally:
            self._noting = None


def _tokens() -> QuerySet[PersonalToken]:
    """In the database that is written to: a replica may not know yet what was revoked."""
    return PersonalToken.objects.using(router.db_for_write(PersonalToken))


def _accepted() -> QuerySet[PersonalToken]:
    """Tokens that are neither revoked nor expired, of active users."""
    lasting = Q(expires=None) | Q(expires__gt=timezone.now())
    return _tokens().filter(lasting, whose_user_is_active(), revoked=None).order_by()


def _good(digests: Iterable[str]) -> dict[str, PersonalToken]:
    return {token.digest: token for token in _accepted().filter(digest__in=digests).select_related("user")}


def _still_good(pks: Iterable[int]) -> set[int]:
    return set(_accepted().filter(pk__in=pks).values_list("pk", flat=True))


def _note_use(pks: Iterable[int]) -> None:
    _tokens().filter(pk__in=pks).update(last_used=timezone.now())
