"""The Streamable HTTP transport without I/O of its own: JSON-RPC messages, event streams, rejections."""
