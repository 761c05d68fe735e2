"""Books in the admin."""

from typing import TYPE_CHECKING

from django.contrib import admin

from project.catalogue.models import Book

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Book]
else:
    ModelAdmin = admin.ModelAdmin  # generic for the type checker only


@admin.register(Book)
class BookAdmin(ModelAdmin):
    """A plain list of books."""

    list_display = ("title", "author", "year", "copies")
    search_fields = ("title", "author")
