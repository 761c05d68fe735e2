"""`nodes` and `now`: the server processes, and what runs in them."""

import json
from argparse import _SubParsersAction
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from mcp_sessions.inventory import display
from mcp_sessions.inventory.nodes import RunningCall, ServingNode, nodes_of, running_in
from mcp_sessions.management.subcommands.selection import add_endpoint, reached

_NODE = "{:<16}  {:<20}  {:>7}  {:<14}  {:<10}  {:>5}  {:>7}  {:>9}  {:>8}  {:>9}  {}"
_CALL = "{:>8}  {:<32}  {:<12}  {:<24}  {:<24}  {:<16}  {}"


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    nodes = commands.add_parser("nodes", help="list the nodes (server processes) and how they are")
    nodes.set_defaults(run=_nodes)
    now = commands.add_parser("now", help="list what runs now, what has run for longest first")
    now.add_argument("--tool", help="only calls of this tool")
    now.set_defaults(run=_now)
    for parser in (nodes, now):
        add_endpoint(parser)
        parser.add_argument("--json", action="store_true", help="an array of objects")


def _nodes(command: BaseCommand, *, endpoint: str | None, json: bool, **_: Any) -> None:
    found = nodes_of(reached(command, endpoint))
    if json:
        return _write(command, [_node(node) for node in found])
    head = (
        "NODE",
        "HOST",
        "PROCESS",
        "STATE",
        "VERSION",
        "CALLS",
        "STREAMS",
        "LISTENERS",
        "LAG MS",
        "CLOCK MS",
        "ENDPOINT",
    )
    command.stdout.write(_NODE.format(*head))
    for node in found:
        state = f"silent {display.lasting(node.seen)}" if node.is_silent else display.ago(node.seen)
        row = (
            node.id,
            node.host,
            node.pid,
            "draining" if node.draining else state,
            node.version or "unknown",
        )
        numbers = (node.calls, node.streams, node.listeners, node.lag_ms, -node.ahead_ms, node.endpoint)
        command.stdout.write(_NODE.format(*row, *numbers))
    return None


def _now(command: BaseCommand, *, endpoint: str | None, tool: str | None, json: bool, **_: Any) -> None:
    calls = running_in(nodes_of(reached(command, endpoint)))
    calls = [call for call in calls if tool in (None, call.tool)]
    if json:
        return _write(command, [asdict(call) | {"tool": call.tool} for call in calls])
    command.stdout.write(
        _CALL.format("FOR", "TOOL OR METHOD", "RECORD", "CLIENT", "USER", "NODE", "ENDPOINT")
    )
    for call in calls:
        command.stdout.write(_CALL.format(*_cells(call)))
    return None


def _cells(call: RunningCall) -> Sequence[str]:
    return (
        display.lasting(call.began),
        display.printable(call.tool, 32),
        call.fingerprint[:12],
        display.printable(display.client(call.client, call.client_version), 24),
        display.printable(call.principal_name, 24),
        call.node,
        call.endpoint,
    )


def _node(node: ServingNode) -> dict[str, Any]:
    """What is known of a node; what runs in it is what `now` lists."""
    document = asdict(node)
    del document["running"], document["open"]
    return document


def _write(command: BaseCommand, documents: Sequence[dict[str, Any]]) -> None:
    command.stdout.write(json.dumps(documents, indent=2, default=str))
