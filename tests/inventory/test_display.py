"""Numbers as people read them."""

import pytest
from django.utils import translation

from mcp_sessions.inventory import display


@pytest.mark.parametrize(
    ("value", "decimals", "english", "german"),
    [
        (59.97, 0, "60", "60"),
        (1234567, 0, "1,234,567", "1.234.567"),
        (0.1 + 0.2, 1, "0.3", "0,3"),
        (1999.96, 1, "2,000.0", "2.000,0"),
        (-2.6, 0, "-3", "-3"),
    ],
)
def test_a_number_is_rounded_and_written_as_the_language_does(
    value: float, decimals: int, english: str, german: str
) -> None:
    for language, expected in (("en", english), ("de", german)):
        with translation.override(language):
            assert display.number(value, decimals) == expected
