"""The books of a library, which the demo's MCP tools work with."""
