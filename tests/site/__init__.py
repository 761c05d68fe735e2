"""The documentation site as its readers have it: built without a warning, and every page opened in a browser."""
