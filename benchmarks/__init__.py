"""`python -m benchmarks`: this app beside the SDK and its peers, in one run (see docs/benchmarks.md)."""
