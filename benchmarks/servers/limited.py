"""This app with limits, for clients whom a proxy has signed in."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.servers.limited_settings"

from benchmarks.servers.ours import application

__all__ = ["application"]
