"""The pages of the sessions' admin: their addresses, what is posted to them, and what they say."""

import html
import itertools
import re
from typing import Any

from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client

from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import sync_store_for
from tests.support.sessions import Opened

LIST = "/admin/mcp_sessions/mcpsession/"
#: What is said of a process that has stopped, or that Redis has forgotten.
NOT_KNOWN = (
    "Nothing was done: Redis knows no such process. It has ended, or Redis has lost its data and hears of it again in "
    "a few seconds."
)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"

_namespaces = itertools.count()


def on_redis(url: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}


def endpoint(**more: Any) -> dict[str, Any]:
    """An endpoint with a namespace that no other test has."""
    return {"SERVER": "project.mcp.server", "NAMESPACE": f"admin{next(_namespaces)}", **more}


def staff(*codenames: str, name: str = "olga") -> Client:
    """The browser of a staff user with these permissions."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert user.user_permissions.count() == len(codenames)
    client = Client()
    client.force_login(user)
    return client


def detail(session: Opened) -> str:
    return f"{LIST}{session.fingerprint}/change/"


def history(session: Opened) -> str:
    return f"{LIST}{session.fingerprint}/history/"


def body(response: Any) -> str:
    assert isinstance(response, HttpResponse)
    return response.content.decode()


def listed(response: Any) -> list[str]:
    """The fingerprints in the list."""
    return [row.pk for row in response.context["cl"].result_list]


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def action(*sessions: Opened, **more: str) -> dict[str, Any]:
    """What the list posts when its action is run."""
    picked = [session.fingerprint for session in sessions]
    return {"action": "force_expire", "_selected_action": picked, "select_across": "0", **more}


def confirmed(*sessions: Opened, **more: str) -> dict[str, Any]:
    return action(*sessions, post="yes", **more)


def answer(page: Any, **more: str) -> dict[str, Any]:
    """What a browser posts when the button of a confirmation page is pressed: the fields as they are on the page."""
    text = body(page)
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text):
        found.setdefault(name, []).append(html.unescape(value))
    for name in ("block", "duration"):
        if f'name="{name}"' in text:
            options = re.search(
                rf'<select name="{name}".*?<option(?: value="([^"]*)")?>([^<]*)', text, re.DOTALL
            )
            assert options is not None
            found[name] = [options[1] or options[2]]
    del found["csrfmiddlewaretoken"]
    return dict[str, Any](found) | more


def alive(session: Opened, alias: str = "default") -> bool:
    return sync_store_for(alias).run(sessions.get(session.fingerprint)) is not None
