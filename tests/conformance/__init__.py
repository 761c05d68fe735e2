"""The official conformance suite, run against real processes of the demo project that serve `server`."""
