"""What runs in the server processes of the tests: MCP servers, and ASGI applications."""
