"""The tutorial, followed to the letter from an empty folder, with the package installed from its wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.tutorial import Reader, pages, reader

pytestmark = [pytest.mark.slow, pytest.mark.needs("curl", "nginx"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def follower(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with reader(tmp_path_factory.mktemp("tutorial"), wheel) as follower:
        yield follower


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_a_step_of_the_tutorial_works_to_the_letter(follower: Reader, page: Path) -> None:
    """Each step needs those before it."""
    follower.follow(page)
