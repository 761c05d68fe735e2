"""`make cluster`: several processes behind nginx, with their sessions in a Cluster, to be killed at will."""
