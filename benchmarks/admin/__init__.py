"""The operator's pages at 10,000, 100,000 and 1,000,000 sessions: what each costs, and whether it is true."""
