"""The demo under a command as it is: what users get whose `asgi.py` does not mend daphne's."""

from daphne.cli import CommandLineInterface

before = vars(CommandLineInterface)["server_class"]

from project.asgi import application  # noqa: E402 - it mends the command

CommandLineInterface.server_class = before

__all__ = ["application"]
