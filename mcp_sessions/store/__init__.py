"""Where sessions live: a contract, and two implementations of it."""
