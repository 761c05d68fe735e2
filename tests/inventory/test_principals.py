"""What principals are called."""

import pytest

from mcp_sessions.inventory.principals import Named, names_of


@pytest.mark.django_db
@pytest.mark.parametrize("length", [150, 151, 5000])
def test_a_name_is_no_longer_than_its_column(length: int) -> None:
    [found] = names_of([("default", "p" * length)]).values()
    assert found == Named(name="p" * 150 if length == 150 else "p" * 149 + "…")
