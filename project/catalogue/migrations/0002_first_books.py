"""A few books, so that the demo has data to work with."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

BOOKS = [
    ("Emma", "Jane Austen", 1815, 3),
    ("Persuasion", "Jane Austen", 1817, 1),
    ("Pride and Prejudice", "Jane Austen", 1813, 4),
    ("Frankenstein", "Mary Shelley", 1818, 2),
    ("The Last Man", "Mary Shelley", 1826, 1),
    ("Middlemarch", "George Eliot", 1871, 2),
    ("Silas Marner", "George Eliot", 1861, 1),
    ("Jane Eyre", "Charlotte Brontë", 1847, 3),
    ("Wuthering Heights", "Emily Brontë", 1847, 2),
    ("Bleak House", "Charles Dickens", 1853, 1),
    ("Great Expectations", "Charles Dickens", 1861, 2),
    ("The Time Machine", "H. G. Wells", 1895, 2),
    ("The War of the Worlds", "H. G. Wells", 1898, 2),
    ("Dracula", "Bram Stoker", 1897, 1),
    ("Treasure Island", "Robert Louis Stevenson", 1883, 2),
]


def add_books(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    book = apps.get_model("catalogue", "Book")
    book.objects.bulk_create(
        book(title=title, author=author, year=year, copies=copies) for title, author, year, copies in BOOKS
    )


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_initial")]
    operations = [migrations.RunPython(add_books, migrations.RunPython.noop)]
