"""Settings: the demo as its own authorization server, which knows the document of one client."""

from project.settings import *  # noqa: F403
from project.settings import OAUTH2_PROVIDER as _FROM_DEMO

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; nothing here is secret
OAUTH2_PROVIDER = {**_FROM_DEMO, "CIMD_METADATA_FETCHER": "tests.served.client_document.Fetcher"}
