"""The catalogue as a Django app."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """A library's books."""

    name = "project.catalogue"
    verbose_name = "Library"
