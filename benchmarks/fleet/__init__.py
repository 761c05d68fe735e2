"""A simulated fleet: what a million sessions cost Redis, and what a Cluster makes of it."""
