"""The documents are tested: what they say about settings, checks, keys and the protocol, and every block of code."""
