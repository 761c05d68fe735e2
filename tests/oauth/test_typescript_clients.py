"""The whole way with the TypeScript clients, as tests/oauth/test_python_client.py goes it."""

from pathlib import Path

import httpx2
import pytest

from tests.clients.driven import DrivenClient, driven, typescript_driver
from tests.oauth.conftest import Site
from tests.oauth.person import Person
from tests.oauth.test_python_client import status
from tests.served.client_document import DOCUMENT

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.needs("npm")]


def connect(client: DrivenClient, site: Site, person: Person) -> None:
    """Connect; somebody agrees in between."""
    where = client.ask("open", url=site.resource)
    assert where.startswith(f"{site.url}/oauth/authorize/?"), where
    answer = person.agree(where)
    client.ask("finish", code=answer["code"], iss=answer["iss"])
    assert client.ask("open", url=site.resource) is None


@pytest.mark.parametrize("document", [None, DOCUMENT], ids=["registered", "with a document"])
@pytest.mark.parametrize("library", ["sdk", "client"])
def test_a_client_goes_the_whole_way(
    site: Site, ann: Person, library: str, document: str | None, tmp_path: Path
) -> None:
    command = typescript_driver(library, *([document] if document else []), driver="oauth.mjs")
    with driven(command, tmp_path) as client:
        connect(client, site, ann)
        found = client.call("whoami")["structuredContent"]
        assert found["name"] == "ann"
        first = client.ask("kept")
        assert (first["client"] == DOCUMENT) == (document is not None)

        # Without its stream: a client whose stream and call renew the same token at the same moment may lose both.
        client.ask("leave")
        site.expire_access_tokens()
        assert client.ask("open", url=site.resource) is None, "renewed without a word"
        assert client.call("whoami")["structuredContent"] == found
        second = client.ask("kept")
        assert first["token"] != second["token"]
        assert "authorize" not in second
        assert len(ann.asked) == 1

        client.ask("leave")
        revoked = httpx2.post(
            f"{site.url}/oauth/revoke_token/", data={"token": second["token"], "client_id": second["client"]}
        )
        assert revoked.status_code == 200
        assert {status(url, second["token"]) for url in (site.a.url, site.b.url)} == {401}
        asks = client.ask("open", url=site.resource)
        assert asks.startswith(f"{site.url}/oauth/authorize/?"), "its user is asked again"
