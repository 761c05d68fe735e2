"""How pytest-xdist spreads the tests over processes: what starts the same servers runs in one of them.

The marker `xdist_group` would say the same test by test, but pytest-xdist 3.8 ignores it with pytest 9.2, silently.
"""

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Suites, or modules of a suite, that run as a whole: they share servers, or would disturb each other. What takes
#: longest comes first, so that the other processes need not wait for it at the end.
TOGETHER: Final = (
    "tests/chaos/",
    "tests/clients/",
    "tests/browser/",
    "tests/projects/",
    "tests/install/test_wheel.py",
    "tests/install/test_tutorial.py",
    "tests/benchmarks/",
    "tests/site/",
    "tests/streams/",
    "tests/conformance/",
    "tests/deploy/",
    "tests/daphne/",
    "tests/serving/",
    "tests/protocol/",
    "tests/http/",
)


class Distribution(LoadScopeScheduling):  # type: ignore[misc]  # its types are not exported
    """The tests of one scope run one after the other, in one process; scopes are given out in the order of `rank`."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """One of `TOGETHER`, or the test's module."""
    return next(filter(nodeid.startswith, TOGETHER), nodeid.partition("::")[0])


def rank(nodeid: str) -> int:
    """Lower ones are given out first."""
    scope = scope_of(nodeid)
    return TOGETHER.index(scope) if scope in TOGETHER else len(TOGETHER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution:
    # Otherwise the scopes with the most tests would come first, instead of those that take longest.
    config.option.loadscopereorder = False
    return Distribution(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))
