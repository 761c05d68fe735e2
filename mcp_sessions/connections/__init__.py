"""Connections to Redis: pools, pipelines, what is known of a server that fails, Sentinel and Cluster.

Knows scripts and their keys, and no call of the store.
"""
