"""Everything that streams do across processes, within one process that has no Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.streams.test_client_requests import *  # noqa: F403 - the same tests, with the fixture below
from tests.streams.test_streams import *  # noqa: F403 - the same tests, with the fixture below
from tests.support.processes import Process, daphnes


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """One process, which is both A and B."""
    directory: Path = tmp_path_factory.mktemp("memory")
    with daphnes(1, directory, MCP_SERVER="tests.served.everything.server") as (process,):
        yield [process, process]
