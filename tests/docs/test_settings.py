"""docs/settings.md says what the code has."""

import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from mcp_sessions import conf
from project.endpoint import READERS
from tests.docs import markdown, settings_table
from tests.support import ROOT


def test_the_table_of_settings_is_that_of_the_code() -> None:
    written = markdown.table(markdown.read("settings.md"), "Key")
    assert written == settings_table.rows(), f"Write:\n{settings_table.as_markdown()}"


def test_the_table_has_every_key() -> None:
    assert [row[0].strip("`") for row in settings_table.rows()] == list(conf.KEYS)


def test_a_setting_of_the_wrong_type_is_one_that_the_table_does_not_allow() -> None:
    for name, kind, *_ in settings_table.rows():
        key = name.strip("`")
        value = 1.5 if "seconds" not in kind else "1.5"
        with (
            override_settings(MCP_SESSIONS={"default": {"SERVER": "shop.mcp.server", key: value}}),
            pytest.raises(ImproperlyConfigured, match=key),
        ):
            conf.endpoint("default")


def test_the_table_of_variables_has_every_variable_of_the_demo() -> None:
    written = [row[0].strip("`") for row in markdown.table(markdown.read("settings.md"), "Variable")]
    settings = (ROOT / "project" / "settings.py").read_text()
    own = set(re.findall(r'\bread\("([A-Z_]+)"', settings))
    assert len(written) == len(set(written))
    assert set(written) == own | {f"MCP_{key}" for key in READERS}


def test_every_setting_has_a_variable_in_the_demo() -> None:
    assert set(READERS) == set(conf.KEYS)
