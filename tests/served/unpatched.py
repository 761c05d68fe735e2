"""The demo under a command as it is: what users get whose `asgi.py` does not patch it."""

from daphne.cli import CommandLineInterface

before = vars(CommandLineInterface)["server_class"]

from project.asgi import application  # noqa: E402 - it patches the command

CommandLineInterface.server_class = before

__all__ = ["application"]
