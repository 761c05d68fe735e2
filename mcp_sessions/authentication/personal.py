"""Personal access tokens as an authenticator. Nothing is remembered of a token: the database is asked each time.

Requests that arrive while the database is being asked wait, and share the next question. So each is answered by what
the database had after it arrived, and many requests cost few questions.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Q, QuerySet
from django.utils import timezone

from mcp_sessions.authentication.authenticator import Authenticator, bearer_token
from mcp_sessions.authentication.identity import Identity, of_user
from mcp_sessions.authentication.models import MARK, PersonalToken, digest_of
from mcp_sessions.authentication.threads import MOST_WAITING, SECONDS, in_thread
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import AuthenticationUnavailable, CredentialsRefused
from mcp_sessions.transport.asgi import Scope

logger = logging.getLogger(__name__)

#: Tokens that are asked for together.
TOGETHER: Final = 500
#: How exact `last_used` is: it is written at most so often.
USED: Final = timedelta(minutes=1)


class PersonalTokenAuthenticator(Authenticator):
    """`personal-token`: tokens that users have made in the admin, or with `manage.py mcp_sessions token create`."""

    advice = "Send a personal access token in Authorization: Bearer."
    recheck_seconds: ClassVar[float] = 1.0

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        if not apps.is_installed("django.contrib.auth"):
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] authenticates by personal-token, and needs django.contrib.auth."
            )
        self._questions: WeakKeyDictionary[asyncio.AbstractEventLoop, Questions] = WeakKeyDictionary()

    async def authenticate(self, scope: Scope) -> Identity | None:
        text = bearer_token(scope)
        if text is None or not text.startswith(MARK):
            return None
        loop = asyncio.get_running_loop()
        questions = self._questions.get(loop)
        if questions is None:
            questions = self._questions[loop] = Questions()
        token = await questions.ask(digest_of(text))
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
        pks = list({each.key for each in identities})
        good: set[int] = set()
        for start in range(0, len(pks), TOGETHER):
            good |= await in_thread(partial(_still_good, pks[start : start + TOGETHER]))
        return [each for each in identities if each.key in good]


class Questions:
    """What one event loop asks the database about tokens, one question at a time."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[PersonalToken | None]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None

    async def ask(self, digest: str) -> PersonalToken | None:
        """The token with this digest, if it is good. Raises: AuthenticationUnavailable."""
        if len(self._waiting) >= MOST_WAITING:
            raise AuthenticationUnavailable("too many tokens wait to be looked up")
        answer: asyncio.Future[PersonalToken | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(digest, []).append(answer)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all())
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        except TimeoutError:
            raise AuthenticationUnavailable("the database does not answer") from None

    async def _ask_for_all(self) -> None:
        try:
            while self._waiting:
                digests = list(self._waiting)[:TOGETHER]
                answers = {digest: self._waiting.pop(digest) for digest in digests}
                await self._ask_for(answers)
        finally:
            self._asking = None

    async def _ask_for(self, answers: Mapping[str, list["asyncio.Future[PersonalToken | None]"]]) -> None:
        found: dict[str, PersonalToken] = {}
        failure: Exception | None = None
        try:
            found = await in_thread(partial(_good, list(answers)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            failure = error
        for digest, futures in answers.items():
            for future in futures:
                if future.done():
                    continue  # nobody waits any more
                if failure is not None:
                    future.set_exception(failure)
                else:
                    future.set_result(found.get(digest))
        now = timezone.now()
        used = [each.pk for each in found.values() if each.last_used is None or now - each.last_used >= USED]
        if used and self._noting is None:
            self._noting = asyncio.create_task(self._note(used))

    async def _note(self, pks: list[int]) -> None:
        """Write when tokens were used, behind the requests. If that fails, the next minute tries again."""
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
    # A user model may do without the field: then every user is active.
    has_field = any(field.name == "is_active" for field in get_user_model()._meta.get_fields())
    active = {"user__is_active": True} if has_field else {}
    return _tokens().filter(lasting, revoked=None, **active).order_by()


def _good(digests: Iterable[str]) -> dict[str, PersonalToken]:
    return {token.digest: token for token in _accepted().filter(digest__in=digests).select_related("user")}


def _still_good(pks: Iterable[int]) -> set[int]:
    return set(_accepted().filter(pk__in=pks).values_list("pk", flat=True))


def _note_use(pks: Iterable[int]) -> None:
    _tokens().filter(pk__in=pks).update(last_used=timezone.now())
