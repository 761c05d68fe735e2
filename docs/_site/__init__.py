"""What the site adds to the Markdown files: Sphinx extensions."""
