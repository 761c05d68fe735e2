"""State handles, the state of users, and conversations, for clients of both eras."""
