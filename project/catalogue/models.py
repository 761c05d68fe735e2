"""A book that the library owns."""

from django.db import models


class Book(models.Model):
    """One title, with the number of copies on the shelf."""

    title = models.CharField(max_length=200, unique=True)
    author = models.CharField(max_length=200, db_index=True)
    year = models.PositiveSmallIntegerField()
    copies = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ("title",)

    def __str__(self) -> str:
        return f"{self.title} by {self.author} ({self.year})"
