"""`nodes`: the server processes, by their heartbeats."""

from argparse import _SubParsersAction
from typing import Any

from django.core.management.base import BaseCommand

from mcp_sessions.inventory import display
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.management.subcommands.selection import add_endpoint, aliases_of


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    nodes = commands.add_parser("nodes", help="list the nodes (server processes) by their heartbeats")
    add_endpoint(nodes)
    nodes.set_defaults(run=_nodes)


def _nodes(command: BaseCommand, *, endpoint: str | None, **_: Any) -> None:
    for node in nodes_of(aliases_of(endpoint)):
        command.stdout.write(f"{node.id}  {node.host}  {node.pid}  {display.ago(node.seen)}  {node.endpoint}")
