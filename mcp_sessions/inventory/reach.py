"""Which endpoints can be asked: what is shown of all of them shows the others while the store of one is away."""

from collections.abc import Iterable
from dataclasses import dataclass

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import validity
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Some endpoints at one moment."""

    #: Those whose stores answer, and those whose stores do not.
    there: tuple[str, ...]
    away: tuple[str, ...] = ()


def reach(aliases: Iterable[str]) -> Reach:
    """Ask the store of each endpoint, one for each cache; nobody if all of them share one, because reading it says so.

    Raises: StoreUnavailable if none answers.
    """
    aliases = tuple(aliases)
    by_cache = {endpoint(alias).cache: alias for alias in aliases}
    if len(by_cache) < 2:
        return Reach(there=aliases)
    silent: dict[str, StoreUnavailable] = {}
    for cache, alias in by_cache.items():
        try:
            sync_store_for(alias).run(validity.min_created(0))
        except StoreUnavailable as error:
            silent[cache] = error
    there = tuple(alias for alias in aliases if endpoint(alias).cache not in silent)
    if not there:
        raise next(iter(silent.values()))
    return Reach(there=there, away=tuple(alias for alias in aliases if alias not in there))
