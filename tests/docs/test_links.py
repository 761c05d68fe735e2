"""Links between the documents lead to a file that is there, and to a heading that it has."""

import re
from pathlib import Path

from tests.docs import markdown


def test_links_between_documents_lead_somewhere() -> None:
    for name in markdown.documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", markdown.prose(name)):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert _leads_somewhere(name, target), f"{name}: {target}"


def _leads_somewhere(name: str, target: str) -> bool:
    path, _, fragment = target.partition("#")
    base = markdown.ROOT if name == "README.md" else markdown.DOCS
    file: Path = (base / path if path else base / name).resolve()
    if not file.exists():
        return False
    if not fragment:
        return True
    document = "README.md" if file.name == "README.md" else file.name
    return fragment in {markdown.anchor(heading) for heading in markdown.headings(document)}
