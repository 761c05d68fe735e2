"""The catalogs of translations: complete, correct and compiled."""

import gettext
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import django
import pytest

import mcp_sessions
from tests.support.programs import path_of

PACKAGE: Final = Path(mcp_sessions.__file__).parent
LANGUAGES: Final = sorted(path.name for path in (PACKAGE / "locale").iterdir())
#: What must be in a translation as it is in the original: placeholders, and the tags and entities of HTML.
KEPT: Final = re.compile(r"%\(\w+\)s|%%|</?(?:a|code|span|strong)\b[^<>]*>|&\w+;")
#: Messages that Django has, too, and that are translated otherwise here: Django's is the name of an app.
OTHERWISE: Final = {"Sessions"}

#: Whatever language the machine has.
ENVIRONMENT: Final = os.environ | {"LC_ALL": "C.UTF-8"}

pytestmark = pytest.mark.needs("msgfmt")


def of(language: str, kind: str) -> Path:
    return PACKAGE / "locale" / language / "LC_MESSAGES" / f"django.{kind}"


def run(program: str, *arguments: str | Path) -> str:
    """What one of gettext's programs writes. They come together."""
    command = [Path(path_of("msgfmt")).with_name(program), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def messages(path: Path) -> set[str]:
    """The messages of a catalog, without their translations."""
    entries = run("msgcat", "--no-location", "--no-wrap", path).split("\n\n")[1:]
    return {
        "\n".join(line for line in entry.splitlines() if line.startswith(("msgid", "msgctxt")))
        for entry in entries
    }


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The messages that the package has now."""
    copy = tmp_path_factory.mktemp("package") / "mcp_sessions"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "locale"))
    (copy / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "--locale", "de", "--no-wrap"]
    done = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return copy / "locale" / "de" / "LC_MESSAGES" / "django.po"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalog_has_every_message_of_the_package_and_no_other(language: str, extracted: Path) -> None:
    shipped, now = messages(of(language, "po")), messages(extracted)
    assert now - shipped == set(), "run makemessages, and translate them"
    assert shipped - now == set(), "the package does not say this any more"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["--untranslated", "--only-fuzzy", "--only-obsolete"])
def test_every_message_of_a_catalog_is_translated(language: str, kind: str) -> None:
    assert run("msgattrib", kind, of(language, "po")) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_compiled_catalog_is_that_of_its_source(language: str, tmp_path: Path) -> None:
    run("msgfmt", "--check-format", "--output-file", tmp_path / "django.mo", of(language, "po"))
    assert run("msgunfmt", of(language, "mo")) == run("msgunfmt", tmp_path / "django.mo"), (
        "run compilemessages"
    )


def translations(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of a compiled catalog with their translations; of several forms, each."""
    entries = run("msgunfmt", "--no-wrap", path).split("\n\n")[1:]
    for entry in entries:
        texts = re.findall(r'^(msgid|msgid_plural|msgstr(?:\[\d\])?) "(.*)"$', entry, re.MULTILINE)
        originals = [text for name, text in texts if name.startswith("msgid")]
        for number, text in enumerate(text for name, text in texts if name.startswith("msgstr")):
            yield originals[min(number, len(originals) - 1)], text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_keeps_placeholders_and_html(language: str) -> None:
    found = list(translations(of(language, "mo")))
    assert len(found) > 400
    for original, translation in found:
        assert sorted(KEPT.findall(original)) == sorted(KEPT.findall(translation)), original


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_of_djangos_is_translated_as_django_does(language: str) -> None:
    """Django has one catalog for all apps: ours would change its pages."""
    ours = dict(translations(of(language, "mo")))
    for path in Path(django.__file__).parent.glob(f"**/locale/{language}/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            theirs = gettext.GNUTranslations(file)
        for original, translation in ours.items():
            known = theirs.gettext(original)
            if known != original and original not in OTHERWISE:
                assert translation == known, f"{original}, of {path}"
