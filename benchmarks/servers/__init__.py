"""The contestants: ASGI applications that offer one tool, `add`. `launch` runs each in its own Python."""
