"""Every call on the store; the docstring of each is its contract, which holds for every driver.

Each call is atomic. "Now" is the store's clock, never a node's. A call on a session looks at its record first: a record
that cannot be read, or that another version wrote, is logged once per read and treated as gone. Every call raises
`StoreUnavailable` when the store cannot be asked; that never means that a session is gone.
"""
