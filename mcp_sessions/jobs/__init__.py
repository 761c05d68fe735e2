"""Jobs that end records for operators: begun once, driven in batches by whoever is there, and resumed after a crash."""
