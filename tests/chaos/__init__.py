"""Real processes, real Redis, and everything that goes wrong with them; every message is counted."""
