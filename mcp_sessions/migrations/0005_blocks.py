"""The table of blocks."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("mcp_sessions", "0004_audit"),
    ]

    operations = [
        migrations.CreateModel(
            name="Block",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("principal", "principal"), ("client", "client"), ("address", "address")],
                        max_length=16,
                        verbose_name="what",
                    ),
                ),
                (
                    "value",
                    models.TextField(
                        help_text="A principal as records show it, a client's exact name, an IP address or a network."
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
                (
                    "reason",
                    models.CharField(
                        blank=True, help_text="For operators. Clients do not see it.", max_length=200
                    ),
                ),
                ("by", models.CharField(editable=False, max_length=255)),
                ("created", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "expires",
                    models.DateTimeField(blank=True, help_text="Empty: until it is lifted.", null=True),
                ),
                ("lifted", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "ordering": ("-created", "-pk"),
            },
        ),
    ]
