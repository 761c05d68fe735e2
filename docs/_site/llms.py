"""llms.txt: the pages of the site for programs that read them, and llms-full.txt with all of their text.

The form is that of llmstxt.org. Sections and their order are those of the navigation.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    pages = [page for _, below in sections(app.env) for page in below]
    out = Path(app.outdir)
    (out / "llms.txt").write_text("\n".join(overview(app.env)) + "\n", encoding="utf-8")
    texts = [app.env.doc2path(page).read_text(encoding="utf-8") for page in ("index", *pages)]
    (out / "llms-full.txt").write_text("\n\n".join(texts), encoding="utf-8")


def overview(env: BuildEnvironment) -> Iterator[str]:
    yield from (f"# {env.titles['index'].astext()}", "", f"> {_summary(env, 'index')}")
    for caption, pages in sections(env):
        yield from ("", f"## {caption}", "")
        for page in pages:
            address = f"{env.config.html_baseurl}_sources/{page}.md.txt"
            yield f"- [{env.titles[page].astext()}]({address}): {_summary(env, page)}"


def sections(env: BuildEnvironment) -> Iterator[tuple[str, list[str]]]:
    """The captions of the navigation, each with its pages and those below them."""
    for toctree in env.get_doctree("index").findall(addnodes.toctree):
        yield toctree["caption"], [page for _, each in toctree["entries"] for page in _with_below(env, each)]


def _with_below(env: BuildEnvironment, page: str) -> Iterator[str]:
    yield page
    for below in env.toctree_includes.get(page, ()):
        yield from _with_below(env, below)


def _summary(env: BuildEnvironment, page: str) -> str:
    """The first sentence."""
    paragraph = next(iter(env.get_doctree(page).findall(nodes.paragraph)), None)
    text = " ".join(paragraph.astext().split()) if paragraph is not None else ""
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0]
