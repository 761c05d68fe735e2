"""A library's books: what the demo's MCP tools work on."""
