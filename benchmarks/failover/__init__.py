"""What clients notice while the Redis behind Sentinels, or a Cluster, fails over."""
