"""The subcommands of `manage.py mcp_sessions`, a module for each group of them.

Each has `add_arguments(commands)`, which adds its parsers, and sets on each of them the default `run`: a function that
is called with the command and the options.
"""
