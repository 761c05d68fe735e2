"""Blocks from code: refuse a principal, a client's name or an address for a time, on every process."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from django.db import router, transaction
from django.utils import timezone

from mcp_sessions import audit, conf
from mcp_sessions.authentication.blocks import BLOCK_KINDS, Block, BlockKind, checked
from mcp_sessions.authentication.models import from_now
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import BlocksChanged
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.texts import restored, storable

__all__ = ["BLOCK_KINDS", "Block", "BlockKind", "active", "block", "unblock"]

logger = logging.getLogger(__name__)


def block(
    kind: BlockKind,
    value: str,
    *,
    duration: timedelta | None,
    endpoint: str = "",
    reason: str = "",
    by: str = "code",
) -> Block:
    """Refuse whoever is meant, in both eras and on every process, within a second; None: until the block is lifted.

    Their requests get 403, and their open streams end. What they have stays: end it with `ending.end_sessions`. An
    `endpoint` of "" stands for every endpoint. `by` is who blocks, for the audit. Several blocks may hold for the same
    value; the last to end counts.

    While the store is away, processes notice the block within half a minute. In a transaction, it begins with the
    commit. Raises: ValueError for a value that does not fit the kind.
    """
    if endpoint and endpoint not in conf.aliases():
        raise ValueError(f"{endpoint} is no endpoint of MCP_SESSIONS.")
    made = Block(
        kind=kind,
        value=storable(checked(kind, value)),
        endpoint=endpoint,
        reason=storable(reason)[:200],
        by=storable(by)[:255],
        expires=None if duration is None else from_now(duration),
    )
    save(made)
    return made


def save(made: Block) -> None:
    """Save a block that a form has made, and tell every process."""
    with transaction.atomic(using=router.db_for_write(Block)):
        made.save()
        _write_down("block", made, made.by, made.reason)
    until = "until it is lifted" if made.expires is None else f"until {made.expires.isoformat()}"
    logger.warning("Blocked %s %r %s, by %r: %s", made.kind, made.value, until, made.by, made.reason)
    _tell([made.endpoint])


def unblock(blocks: Sequence[Block], *, by: str = "code") -> int:
    """Lift blocks, on every process within a second; how many of them held until now."""
    lifted = 0
    for each in blocks:
        if each.state == "active":
            each.lifted = timezone.now()
            with transaction.atomic(using=router.db_for_write(Block)):
                held = Block.objects.using(router.db_for_write(Block)).filter(pk=each.pk, lifted=None)
                if not held.update(lifted=each.lifted):
                    continue  # somebody else has lifted it meanwhile
                _write_down("unblock", each, by, "")
            logger.warning("Lifted the block of %s %r, by %r.", each.kind, each.value, by)
            lifted += 1
    if lifted:
        _tell([each.endpoint for each in blocks])
    return lifted


def active() -> Sequence[Block]:
    """The blocks that hold now, newest first."""
    return list(Block.objects.using(router.db_for_write(Block)).active())


def _write_down(action: str, about: Block, by: str, reason: str) -> None:
    """Write an act to the audit table."""
    value = restored(about.value)
    audit.record(
        action=action,
        by=by,
        reason=restored(reason),
        endpoint=about.endpoint,
        title=f"{about.kind} {value}",
        kind="block",
        principal=value if about.kind == "principal" else "",
        client=value if about.kind == "client" else "",
    )


def _tell(endpoints: Sequence[str]) -> None:
    """Tell every process that blocks have changed, when that is committed."""
    aliases = conf.aliases() if "" in endpoints else tuple(dict.fromkeys(endpoints))
    for alias in aliases:
        if alias in conf.aliases():  # a block may be of an endpoint that the settings no longer have
            transaction.on_commit(partial(_broadcast, alias), using=router.db_for_write(Block))


def _broadcast(alias: str) -> None:
    try:
        outside.broadcast(alias, BlocksChanged())
    except StoreUnavailable as error:
        logger.warning("The nodes of endpoint %r notice the change within half a minute: %s", alias, error)
