"""What clients notice while processes, Redis and clocks fail: `python -m benchmarks.chaos`."""
