"""What principals are called."""

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from mcp_sessions.inventory.principals import Named, names_of, principals_of


@pytest.mark.django_db
@pytest.mark.parametrize("length", [150, 151, 5000])
def test_a_name_is_no_longer_than_its_column(length: int) -> None:
    [found] = names_of([("default", "p" * length)]).values()
    assert found == Named(name="p" * 150 if length == 150 else "p" * 149 + "…")


def test_who_has_nothing_in_the_field_is_no_subject(settings: LazySettings) -> None:
    """Not even that of a token whose subject is "None"."""
    entry = {"SERVER": "project.mcp.server", "SUBJECT_TO_USER": "last_login"}
    settings.MCP_SESSIONS = {"default": entry}
    assert principals_of(User(pk=7), "default") == ["user:7"]
