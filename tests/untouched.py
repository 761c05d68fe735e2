"""The demo under the `daphne` command as it is: what users get whose `asgi.py` does not mend it."""

from daphne.cli import CommandLineInterface
from daphne.server import Server

from project.asgi import application

CommandLineInterface.server_class = Server

__all__ = ["application"]
