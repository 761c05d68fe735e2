"""Somebody with a browser, who logs in to the site and agrees to what a client asks for."""

from html.parser import HTMLParser
from typing import Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2


class Person:
    """One person and their browser, which keeps cookies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.browser = httpx2.Client(timeout=30)
        #: What the pages said that asked for agreement.
        self.asked: list[str] = []
        #: The paths of the login pages that they used.
        self.logged_in_at: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()

    def agree(self, url: str) -> dict[str, str]:
        """Open the page to which a client sent the browser, log in if that is asked for, and agree.

        Returns what the browser then takes to the client: the query of its redirect URI.
        """
        response = self.open(url)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        self.asked.append(response.text)
        return self.submit(response, allow="Authorize")

    def open(self, url: str) -> httpx2.Response:
        """A page of the site; behind the login, if that is in the way."""
        response = self.browser.get(url, follow_redirects=True)
        if 'name="password"' not in response.text:
            return response
        self.logged_in_at.append(response.url.path)
        fields = {"username": self.name, "login": self.name, "password": f"{self.name}'s password"}
        answer = self.browser.post(
            str(response.url), data=fields_of(response) | fields, headers={"referer": str(response.url)}
        )
        assert answer.status_code == 302, answer.text
        return self.browser.get(urljoin(str(response.url), answer.headers["location"]), follow_redirects=True)

    def submit(self, page: httpx2.Response, **buttons: str) -> dict[str, str]:
        """Send the form of a page; the query of the address to which that leads."""
        answer = self.press(page, **buttons)
        assert answer.status_code == 302, answer.text
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in query.items()}

    def press(self, page: httpx2.Response, **buttons: str) -> httpx2.Response:
        """Send the form of a page."""
        headers = {"referer": str(page.url)}
        return self.browser.post(str(page.url), data=fields_of(page) | buttons, headers=headers)


class _Hidden(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "input" and said.get("type") == "hidden" and said.get("name"):
            self.fields[str(said["name"])] = said.get("value") or ""


def fields_of(page: httpx2.Response) -> dict[str, str]:
    """The hidden fields of a page, by their names."""
    parser = _Hidden()
    parser.feed(page.text)
    return parser.fields
