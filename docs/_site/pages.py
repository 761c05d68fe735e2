"""Pages of the repository as pages of the site: links to other files, names of files above code, anchors, tables."""

import re
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx

REPOSITORY: Final = "https://github.com/mcp-sessions/mcp-sessions"
#: A link to a file, and the beginning of a fence whose block of code has a title.
_LINK: Final = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")
_TITLED: Final = re.compile(r"^```(\w+) (\S.*)$", re.MULTILINE)
#: What may be wider than the page, and is scrolled with the keyboard, too.
_SCROLLED: Final = re.compile(r'<(pre|div class="table-wrapper[^"]*")(?=>)')


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_as_a_page)
    app.connect("doctree-read", add_anchors)
    app.connect("html-page-context", let_everybody_use_it, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_as_a_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Show the title of a block as its caption, and lead links to files that are no pages to the repository."""
    titled = _TITLED.sub(r"```{code-block} \1\n:caption: \2\n", source[0])
    folder = Path(app.env.doc2path(name)).parent
    source[0] = _LINK.sub(lambda link: _target(folder, Path(app.srcdir), link[1]), titled)


def _target(folder: Path, pages: Path, link: str) -> str:
    path = (folder / link).resolve()
    if path.is_relative_to(pages) or not path.exists():
        return link
    kind = "tree" if path.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{path.relative_to(pages.parent).as_posix()}"


def add_anchors(app: Sphinx, tree: nodes.document) -> None:
    """Give each heading the anchor that it has on GitHub, too."""
    for section in tree.findall(nodes.section):
        slug = section.get("slug")
        if slug and slug not in section["ids"]:
            section["ids"].append(slug)


def let_everybody_use_it(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Let keyboards scroll what is wide, and give the headings of the navigation their level."""
    if "body" in context:
        context["body"] = _SCROLLED.sub(r'<\1 tabindex="0"', context["body"])
    if "furo_navigation_tree" in context:
        navigation = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = navigation.replace(
            'role="heading"', 'role="heading" aria-level="2"'
        )
