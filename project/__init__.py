"""The demo project: a small library whose catalogue is served over MCP."""
