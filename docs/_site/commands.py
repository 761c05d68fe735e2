"""The directive `mcp-commands`: the subcommands of `manage.py mcp_sessions`, from their parsers."""

from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator

from django.core.management import load_command_class
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Commands(SphinxDirective):
    """A section for each subcommand."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(lines()), allow_section_headings=True)


def lines() -> Iterator[str]:
    parser = load_command_class("mcp_sessions", "mcp_sessions").create_parser("manage.py", "mcp_sessions")
    yield from _below(parser, "")


def _below(parser: ArgumentParser, prefix: str) -> Iterator[str]:
    for group in (action for action in parser._actions if isinstance(action, _SubParsersAction)):
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            yield from _section(f"{prefix}{name}", helps.get(name, ""), command)


def _section(name: str, summary: str, parser: ArgumentParser) -> Iterator[str]:
    nested = list(_below(parser, f"{name} "))
    if nested:
        yield from nested
        return
    arguments = [action for action in parser._actions if action.dest != "help"]
    yield from (f"## {name}", "", f"{summary[:1].upper()}{summary[1:]}.", "")
    if arguments:
        yield from ("| Argument | |", "| --- | --- |")
        yield from (_row(action) for action in arguments)
    yield ""


def _row(action: Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    said = (action.help or "").replace("%(default)s", str(action.default))
    # The endpoints are those of the project that builds the site.
    known = () if action.dest == "endpoint" else action.choices or ()
    choices = ", ".join(f"`{choice}`" for choice in known)
    return f"| {names} | {'; '.join(filter(None, (said, choices)))} |"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("mcp-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
