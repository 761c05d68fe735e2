"""The only package that knows the SDK's internals: an SDK release means these files to look at."""
