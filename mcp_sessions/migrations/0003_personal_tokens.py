"""The table of personal access tokens."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("mcp_sessions", "0002_records"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="PersonalToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "prefix",
                    models.CharField(editable=False, max_length=32, unique=True, verbose_name="token"),
                ),
                ("digest", models.CharField(editable=False, max_length=64, unique=True)),
                (
                    "name",
                    models.CharField(
                        blank=True, help_text="What it is for, such as the client's name.", max_length=100
                    ),
                ),
                (
                    "scopes",
                    models.CharField(
                        blank=True,
                        help_text="What REQUIRED_SCOPES ask for, separated by spaces.",
                        max_length=1000,
                    ),
                ),
                (
                    "endpoint",
                    models.CharField(
                        blank=True,
                        help_text="The key in MCP_SESSIONS. Empty: every endpoint.",
                        max_length=255,
                    ),
                ),
                ("created", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires", models.DateTimeField(blank=True, help_text="Empty: never.", null=True)),
                ("last_used", models.DateTimeField(editable=False, help_text="To the minute.", null=True)),
                ("revoked", models.DateTimeField(editable=False, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mcp_personal_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("-created", "-pk"),
            },
        ),
    ]
