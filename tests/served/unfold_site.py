"""The settings of the demo with the admin that django-unfold gives."""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = ["unfold", *_APPS]
