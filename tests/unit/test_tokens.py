"""Revoking a token from code, with stand-ins for the stores."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from pytest_django import Settings

from mcp_sessions import tokens
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.tokens import revoke_token

#: The sessions at each endpoint of the token's user, by the names of the credentials that they were opened with.
OPENED = {
    "shop": {"a": "laptop", "b": "phone", "c": "laptop"},
    "desk": {"d": "phone"},
    "safe": {"e": "laptop"},
}


@pytest.fixture
def away() -> set[str]:
    """The endpoints whose stores do not answer."""
    return set()


@pytest.fixture
def jobs(settings: Settings, monkeypatch: pytest.MonkeyPatch, away: set[str]) -> list[tuple[str, ...]]:
    """The endpoint and the fingerprints of each job that ends sessions."""
    entry = {"SERVER": "shop.mcp.server", "REVOKE_ENDS_SESSIONS": True}
    settings.MCP_SESSIONS = {
        **dict.fromkeys(OPENED, entry),
        "keeps": {"SERVER": "shop.mcp.server"},
    }
    begun: list[tuple[str, ...]] = []

    def session(fingerprint: str, name: str) -> Any:
        return SimpleNamespace(session=SimpleNamespace(fingerprint=fingerprint, name=name))

    class Query:
        def __init__(self, *, aliases: Any, kinds: Any = (), filters: Any = None, matches: Any = ()) -> None:
            [self.alias] = aliases
            self.filters, self.matches = filters, matches

        def pages(self) -> list[Any]:
            assert self.filters.principal == "user:7"
            rows = [session(*each) for each in OPENED[self.alias].items()]
            return [SimpleNamespace(rows=rows[:1]), SimpleNamespace(rows=rows[1:])]

    def begin(query: Any, *, by: str, action: str, reason: str) -> Any:
        assert (by, action, reason) == ("ann", "revoke-token", "laptop")
        begun.append((query.alias, *query.matches[0].fingerprints))
        return query

    def drive(query: Any) -> Any:
        if query.alias in away:
            raise StoreUnavailable(query.alias)
        return SimpleNamespace(ended=len(query.matches[0].fingerprints))

    monkeypatch.setattr(tokens, "SessionQuery", Query)
    monkeypatch.setattr(tokens, "snapshot", lambda query: query)
    monkeypatch.setattr(tokens, "driving", SimpleNamespace(begin=begin, drive=drive))
    return begun


def a_token(*, revoked: Any = None) -> Any:
    return mock.Mock(revoked=revoked, user_id=7, credential="laptop")


def test_the_sessions_end_that_were_opened_with_the_token(jobs: list[tuple[str, ...]]) -> None:
    token = a_token()
    assert revoke_token(token, by="ann") == 3
    assert jobs == [("shop", "a", "c"), ("safe", "e")]
    assert token.revoked is not None
    token.save.assert_called_once_with(update_fields=["revoked"])


def test_a_token_that_is_revoked_stays_as_it_is_and_what_is_left_of_it_ends(
    jobs: list[tuple[str, ...]],
) -> None:
    token = a_token(revoked="before")
    assert revoke_token(token, by="ann") == 3
    assert token.revoked == "before"
    assert not token.save.called


def test_a_store_that_is_away_is_no_reason_to_leave_the_sessions_at_others(
    jobs: list[tuple[str, ...]], away: set[str]
) -> None:
    away.add("shop")
    with pytest.raises(StoreUnavailable, match="shop"):
        revoke_token(a_token(), by="ann")
    assert [alias for alias, *_ in jobs] == ["shop", "safe"]
