"""State handles: state that spans calls, named by a text that a tool returns and the model passes to other tools."""
