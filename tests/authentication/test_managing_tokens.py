"""Personal tokens are made and revoked in the admin and in the shell, and their text is shown once."""

import re
from datetime import timedelta
from io import StringIO
from unittest import mock

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from mcp_sessions.admin.columns import RecordColumns
from mcp_sessions.authentication.models import MARK, digest_of
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.principals import names_of
from mcp_sessions.models import MCPSession, PersonalToken
from mcp_sessions.tokens import PREFIX_CHARS, create_token
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

LIST = "admin:mcp_sessions_personaltoken_changelist"
ADD = "admin:mcp_sessions_personaltoken_add"


def staff(name: str, *permissions: str, superuser: bool = False) -> Client:
    """The browser of somebody who may use the admin."""
    user = User.objects.create(username=name, is_staff=True, is_superuser=superuser)
    for each in permissions:
        user.user_permissions.add(Permission.objects.get(codename=f"{each}_personaltoken"))
    browser = Client()
    browser.force_login(user)
    return browser


def command(*arguments: str) -> tuple[str, str]:
    """What `manage.py mcp_sessions token` prints, on standard output and on standard error."""
    said, hints = StringIO(), StringIO()
    call_command("mcp_sessions", "token", *arguments, stdout=said, stderr=hints)
    return said.getvalue().strip(), hints.getvalue()


def form(user: User, **more: str) -> dict[str, str]:
    return {"user": str(user.pk), "name": "laptop", "scopes": "mcp", "endpoint": "", **more}


def test_the_admin_shows_a_new_token_once() -> None:
    browser = staff("root", superuser=True)
    ann = User.objects.create(username="ann")
    assert (timezone.now() + timedelta(days=90)).strftime("%Y-%m-%d") in browser.get(
        reverse(ADD)
    ).content.decode()
    page = browser.post(reverse(ADD), form(ann))
    assert page.status_code == 200
    assert "no-store" in page.headers["cache-control"]
    [text] = re.findall(rf"{MARK}\w{{8}}_[\w-]{{43}}", page.content.decode())
    token = PersonalToken.objects.get(user=ann)
    assert token.digest == digest_of(text)
    assert token.prefix == text[:PREFIX_CHARS]
    assert (token.scopes, token.expires) == ("mcp", None)
    change = reverse("admin:mcp_sessions_personaltoken_change", args=[token.pk])
    for address in (reverse(LIST), change, reverse("admin:index")):
        content = browser.get(address).content.decode()
        assert text not in content
        assert token.digest not in content


def test_who_may_add_tokens_makes_them_for_nobody_else() -> None:
    """Otherwise that permission would be the permission to act as a superuser."""
    browser = staff("clerk", "add", "view")
    root, clerk = User.objects.create(username="root", is_superuser=True), User.objects.get(username="clerk")
    page = browser.post(reverse(ADD), form(root))
    assert "Select a valid choice" in page.content.decode()
    assert not PersonalToken.objects.exists()
    browser.post(reverse(ADD), form(clerk))
    assert PersonalToken.objects.get().user == clerk


def test_only_the_name_of_a_token_can_be_changed() -> None:
    browser = staff("root", superuser=True)
    ann = User.objects.create(username="ann")
    token, _ = create_token(ann, name="old", scopes="mcp")
    change = reverse("admin:mcp_sessions_personaltoken_change", args=[token.pk])
    browser.post(
        change, {"name": "new", "scopes": "admin", "user": str(User.objects.get(username="root").pk)}
    )
    token.refresh_from_db()
    assert (token.name, token.scopes, token.user) == ("new", "mcp", ann)


def test_tokens_are_revoked_in_the_admin_with_an_entry_in_its_log() -> None:
    browser = staff("operator", "view", "change")
    token, _ = create_token(User.objects.create(username="ann"))
    page = browser.post(reverse(LIST), {"action": "revoke", "_selected_action": [str(token.pk)]}, follow=True)
    assert "Tokens revoked: 1" in page.content.decode()
    token.refresh_from_db()
    assert token.state == "revoked"
    assert LogEntry.objects.get().change_message == "Revoked."


def test_who_may_only_view_tokens_revokes_none() -> None:
    browser = staff("viewer", "view")
    token, _ = create_token(User.objects.create(username="ann"))
    browser.post(reverse(LIST), {"action": "revoke", "_selected_action": [str(token.pk)]})
    token.refresh_from_db()
    assert token.state == "active"


def test_the_command_prints_the_token_and_nothing_else() -> None:
    User.objects.create(username="ann")
    text, hint = command("create", "ann", "--scope", "mcp read", "--scope", "write", "--name", "laptop")
    assert re.fullmatch(rf"{MARK}\w{{8}}_[\w-]{{43}}", text)
    assert "not shown again" in hint
    assert text not in hint
    token = PersonalToken.objects.get()
    assert (token.digest, token.scopes, token.name) == (digest_of(text), "mcp read write", "laptop")
    assert token.expires is not None
    assert abs(token.expires - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "lifetime"), [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), ("never", None)]
)
def test_a_token_expires_when_it_is_to(text: str, lifetime: timedelta | None) -> None:
    User.objects.create(username="ann")
    command("create", "ann", "--expires", text)
    expires = PersonalToken.objects.get().expires
    assert (expires is None) == (lifetime is None)
    if expires is not None and lifetime is not None:
        assert abs(expires - timezone.now() - lifetime) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "soon", "-1d", "2020-01-01", "2027-13-01", "30", "9999999d"])
def test_an_expiry_that_is_none_is_refused(text: str) -> None:
    User.objects.create(username="ann")
    with pytest.raises(CommandError):
        command("create", "ann", f"--expires={text}")
    assert not PersonalToken.objects.exists()


def test_tokens_are_listed_and_revoked_by_how_they_begin() -> None:
    for name in ("ann", "bob"):
        User.objects.create(username=name)
    text, _ = command("create", "ann", "--expires", "2099-01-31")
    other, _ = command("create", "bob", "--expires", "never")
    listed, _ = command("list")
    assert text[:PREFIX_CHARS] in listed
    assert "until 2099-01-31" in listed
    assert text not in listed
    only, _ = command("list", "--user", "bob")
    assert other[:PREFIX_CHARS] in only
    assert text[:PREFIX_CHARS] not in only
    said, _ = command("revoke", text[:PREFIX_CHARS])
    assert said.endswith(": revoked")
    assert PersonalToken.objects.get(user__username="ann").state == "revoked"
    assert PersonalToken.objects.get(user__username="bob").state == "active"


@pytest.mark.parametrize("words", [("revoke", "mcps_"), ("revoke", "mcps_unknown1"), ("create", "nobody")])
def test_what_is_not_there_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"No token|no user"):
        command(*words)


def test_two_tokens_have_nothing_in_common() -> None:
    ann = User.objects.create(username="ann")
    made = [create_token(ann)[1] for _ in range(200)]
    assert len({text[:PREFIX_CHARS] for text in made}) == len({text[PREFIX_CHARS:] for text in made}) == 200


def test_a_user_who_is_deleted_takes_the_tokens_along() -> None:
    ann = User.objects.create(username="ann")
    create_token(ann)
    ann.delete()
    assert not PersonalToken.objects.exists()


def test_the_admin_names_the_user_behind_a_principal_and_links_to_them(settings: Settings) -> None:
    ann = User.objects.create(username="ann")
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    common = {"SERVER": "tests.served.whoami.server"}
    settings.MCP_SESSIONS = {
        "plain": {**common, "PATH": "plain"},
        "mapped": {**common, "SUBJECT_TO_USER": "username"},
    }
    subject = 'oauth:["https://id.example.com","ann"]'
    pairs = [("plain", f"user:{ann.pk}"), ("plain", subject), ("mapped", subject), ("mapped", "anonymous")]
    named = names_of(pairs)
    assert {pair: (each.name, each.user) for pair, each in named.items()} == {
        pairs[0]: ("ann", ann.pk),
        pairs[1]: ("ann (https://id.example.com)", None),
        pairs[2]: ("ann, ann (https://id.example.com)", ann.pk),
        pairs[3]: ("anonymous", None),
    }
    record = MCPSession()
    record.principal_name, record.principal_user = "ann", ann.pk
    columns = admin.site._registry[MCPSession]
    assert isinstance(columns, RecordColumns)
    link = columns.principal_name(record)
    assert link == f'<a href="{reverse("admin:auth_user_change", args=[ann.pk])}">ann</a>'
    record.principal_user = None
    assert columns.principal_name(record) == "ann"


def test_who_revokes_tokens_hears_how_many_sessions_ended_or_that_not_all_could(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    entry = {"SERVER": "tests.served.whoami.server", "NAMESPACE": "revoked", "REVOKE_ENDS_SESSIONS": True}
    settings.MCP_SESSIONS = {"default": entry}
    browser, ann = staff("operator", "view", "change"), User.objects.create(username="ann")
    tokens = [create_token(ann)[0] for _ in range(4)]
    of_token = [Opened(principal=f"user:{ann.pk}", name=tokens[0].credential) for _ in range(2)]
    open_sessions([*of_token, Opened(principal=f"user:{ann.pk}", name=tokens[1].credential)])

    def revoke(*some: PersonalToken) -> list[str]:
        picked = {"action": "revoke", "_selected_action": [str(each.pk) for each in some]}
        return [str(each) for each in browser.post(reverse(LIST), picked, follow=True).context["messages"]]

    assert revoke(tokens[0]) == ["Tokens revoked: 1, and 2 of their sessions ended."]
    with mock.patch("mcp_sessions.tokens._opened_with", side_effect=StoreUnavailable("away")):
        said = revoke(*tokens)
    assert said == [
        "They are revoked, but not all of their sessions could be ended: away. Revoke them again when Redis answers.",
        "Tokens revoked: 3.",
    ], "one that was revoked before is not revoked again"
    assert revoke(*tokens) == ["Tokens revoked: 0, and 1 of their sessions ended."], "which was left"
    assert LogEntry.objects.filter(change_message="Revoked.").count() == 4
    assert not PersonalToken.objects.filter(revoked=None).exists()
