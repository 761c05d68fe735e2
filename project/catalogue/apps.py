"""The catalogue as a Django app."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """The books of a library."""

    name = "project.catalogue"
    verbose_name = "Library"
