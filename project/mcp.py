"""The demo's MCP server."""

from mcp.server import MCPServer

server = MCPServer("library")
