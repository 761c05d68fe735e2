"""`python -m mcp_sessions.daphne`: the `daphne` command with our server."""

from mcp_sessions.daphne import CommandLineInterface

if __name__ == "__main__":
    CommandLineInterface.entrypoint()
