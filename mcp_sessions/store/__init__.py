"""Where sessions live: calls, their Lua, and the drivers that run them."""
