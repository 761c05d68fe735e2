"""Configuration of the documentation site, which Sphinx builds from this folder: `make site`.

The pages are the Markdown files that people read in the repository, where they are. What the site adds to them
is in `_site/`.
"""

import os
import sys
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# The reference is generated from what the app has once Django is set up.
os.environ |= {"DJANGO_SETTINGS_MODULE": "project.settings", "DJANGO_DEBUG": "1", "REDIS_URL": ""}
django.setup()

from mcp_sessions import __version__  # noqa: E402 - Django first
from mcp_sessions.documentation import SITE  # noqa: E402

project = "mcp_sessions"
author = "The mcp_sessions authors"
copyright = f"2026, {author}. MIT licence"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "_site.pages",
    "_site.commands",
    "_site.llms",
]
exclude_patterns = ["_build"]
# Markdown as GitHub has it: what MyST would add means nothing there.
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_role", "myst_target"]
myst_heading_anchors = 4
# Docstrings write code in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False

html_theme = "furo"
html_title = f"mcp_sessions {release}"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", SITE)
html_theme_options = {
    "source_repository": "https://github.com/mcp-sessions/mcp-sessions/",
    "source_branch": "main",
    "source_directory": "docs/",
}
