"""The demo's settings, with the sessions in the cache that FAILOVER_CACHE describes as JSON."""

import json
import os

from project.settings import *  # noqa: F403 - as Django's settings are extended

CACHES = {"default": json.loads(os.environ["FAILOVER_CACHE"])}
