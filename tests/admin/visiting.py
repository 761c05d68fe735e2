"""Get every page of ours in the admin that the settings in the environment give, and print what they answer.

A program of its own, because an admin of somebody else takes the place of Django's for the whole process. Its sessions
are in its memory. It prints a JSON object: for each page its status and its HTML. With `--marked`, whatever is
translated is marked; with the code of a language, the pages are in that language. Then there are more of them.
"""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Any
from unittest import mock

import django

django.setup()

from django.conf import settings  # noqa: E402 - after the set-up
from django.contrib.auth.models import User  # noqa: E402 - after the set-up
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone, translation  # noqa: E402

from mcp_sessions import blocks  # noqa: E402
from mcp_sessions.errors import StoreUnavailable  # noqa: E402
from mcp_sessions.models import Block, PersonalToken  # noqa: E402
from mcp_sessions.store.calls import nodes  # noqa: E402
from mcp_sessions.store.factory import sync_store_for  # noqa: E402
from tests.admin import marking  # noqa: E402
from tests.support.sessions import Opened, open_sessions  # noqa: E402

OF_OURS = "/admin/mcp_sessions/"
LIST = f"{OF_OURS}mcpsession/"


def visited(client: Client, olga: User) -> Iterator[tuple[str, Any]]:
    """Names of pages, and their responses."""
    yield "empty list", client.get(LIST)
    opened = [
        Opened(client=name, principal=f"user:{olga.pk}", state={"facts": [1]}) for name in ("ada", "bob")
    ]
    open_sessions(opened)
    first = opened[0].fingerprint
    sync_store_for("default").run(nodes.report("0ff1ce5", told=json.dumps(report(first))))
    yield "list", client.get(LIST)
    yield "filtered list", client.get(LIST, {"client": "ada", "q": "ad"})
    yield "detail", client.get(f"{LIST}{first}/change/")
    for name in ("now", "processes", "overview", "end-all"):
        yield name, client.get(f"{LIST}{name}/")
    action = {"action": "force_expire", "_selected_action": [first], "select_across": "0"}
    yield "confirmation", client.post(LIST, action)
    yield "confirmation with a block", client.post(LIST, action | {"action": "force_expire_and_block"})
    yield "after", client.post(LIST, action | {"post": "yes"}, follow=True)
    yield "history", client.get(f"{LIST}{first}/history/")
    yield "user", client.get(f"/admin/auth/user/{olga.pk}/change/")
    yield "of user", client.get(f"{LIST}of-user/{olga.pk}/force-expire/")
    yield "jobs", client.get(f"{OF_OURS}endingjob/")
    yield "job", client.get(f"{OF_OURS}endingjob/1/change/")
    yield "audit", client.get(f"{OF_OURS}auditentry/")
    yield "audit entry", client.get(f"{OF_OURS}auditentry/1/change/")
    blocks.block("client", "mallory", duration=timedelta(hours=1), reason="Floods", by="olga")
    yield "blocks", client.get(f"{OF_OURS}block/")
    yield "new block", client.get(f"{OF_OURS}block/add/")
    yield "block", client.get(f"{OF_OURS}block/{Block.objects.get().pk}/change/")
    yield "new token", client.get(f"{OF_OURS}personaltoken/add/")
    until = timezone.now() + timedelta(days=1)
    wanted = {
        "user": olga.pk,
        "name": "laptop",
        "expires_0": f"{until:%Y-%m-%d}",
        "expires_1": f"{until:%H:%M}",
    }
    yield "made token", client.post(f"{OF_OURS}personaltoken/add/", wanted)
    yield "tokens", client.get(f"{OF_OURS}personaltoken/")
    yield "token", client.get(f"{OF_OURS}personaltoken/{PersonalToken.objects.get().pk}/change/")
    with mock.patch("mcp_sessions.admin.operating.nodes_of", side_effect=StoreUnavailable("away")):
        yield "without the store", client.get(f"{LIST}now/")


def acted(client: Client, olga: User) -> Iterator[tuple[str, Any]]:
    """More pages, most of them with a message that says what was done, or what is wrong."""
    token, block = PersonalToken.objects.get(), Block.objects.get()
    picked = {"_selected_action": [token.pk], "action": "revoke"}
    yield "revoked", client.post(f"{OF_OURS}personaltoken/", picked, follow=True)
    picked = {"_selected_action": [block.pk], "action": "lift"}
    yield "lifted", client.post(f"{OF_OURS}block/", picked, follow=True)
    yield "history of a block", client.get(f"{OF_OURS}block/{block.pk}/history/")
    yield "wrong filters", client.get(LIST, {"user": "nobody", "activity": "odd", "kind": "odd"})
    yield "no such record", client.get(f"{LIST}{'0' * 64}/change/", follow=True)
    yield "nothing found", client.post(f"{LIST}find/", {"q": "otter-5"}, follow=True)
    yield "of nobody", client.get(LIST, {"user": "anonymous", "kind": "handle", "activity": "idle-900"})
    yield "week", client.get(f"{LIST}overview/", {"span": "week"})
    yield "drained", client.post(f"{LIST}processes/", {"process": "p", "drains": "1"}, follow=True)
    yield "cancelled", client.post(f"{LIST}now/", {"cancel": "0ff1ce5:1"}, follow=True)
    yield "no such call", client.post(f"{LIST}now/", {"cancel": "odd"}, follow=True)
    yield "ended all", client.post(f"{LIST}end-all/", {"endpoint": "default"}, follow=True)
    yield "audit by block", client.get(f"{OF_OURS}auditentry/", {"kind": "session"})


def report(fingerprint: str) -> dict[str, Any]:
    """Of a node in which a call of a session runs."""
    call = [1, "session", fingerprint, "tools/call:take_inventory", "user:1", "ada", "1.0", 1_795_731_000_000]
    return {"host": "web-1", "pid": 7, "process": "p", "version": "1.2.3", "calls": 1, "running": [call]}


def main() -> None:
    """Visit them all as a superuser."""
    call_command("migrate", verbosity=0)
    language = sys.argv[1] if len(sys.argv) > 1 else "en"
    if language == "--marked":
        marking.mark_translations()
    else:
        settings.LANGUAGE_CODE = language
        translation.activate(language)
    olga = User.objects.create_superuser("olga")
    client = Client(raise_request_exception=False, headers={"host": "127.0.0.1"})
    client.force_login(olga)
    answers = chain(visited(client, olga), acted(client, olga) if len(sys.argv) > 1 else ())
    found = {name: [answer.status_code, answer.content.decode()] for name, answer in answers}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
