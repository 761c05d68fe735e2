"""The tables of the audit and of the jobs that end records."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("mcp_sessions", "0003_personal_tokens"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndingJob",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created", models.DateTimeField(default=django.utils.timezone.now)),
                ("action", models.CharField(max_length=32)),
                (
                    "by",
                    models.CharField(
                        help_text="The user name of the operator, or shell:<account>.", max_length=150
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("selection", models.JSONField(help_text="Which records end.")),
                (
                    "described",
                    models.CharField(help_text="The same in words.", max_length=500, verbose_name="records"),
                ),
                (
                    "expected",
                    models.PositiveBigIntegerField(
                        default=0, help_text="How many records matched when it began, as the indexes knew it."
                    ),
                ),
                ("state", models.CharField(default="running", max_length=16)),
                ("ended", models.PositiveBigIntegerField(default=0)),
                ("gone", models.PositiveBigIntegerField(default=0, verbose_name="already gone")),
                (
                    "unknown",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Records that are gone, and it is not known whether this job ended them.",
                    ),
                ),
                ("problem", models.CharField(blank=True, help_text="Why it does not go on.", max_length=500)),
                ("finished", models.DateTimeField(null=True)),
                ("position", models.JSONField(default=dict)),
                ("batch", models.CharField(blank=True, max_length=32)),
                ("driver", models.CharField(blank=True, max_length=64)),
                ("driven_until", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "job that ends records",
                "verbose_name_plural": "jobs that end records",
                "ordering": ("-pk",),
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("when", models.DateTimeField(default=django.utils.timezone.now)),
                ("action", models.CharField(max_length=32)),
                ("outcome", models.CharField(default="done", max_length=16)),
                (
                    "fingerprint",
                    models.CharField(
                        blank=True, help_text="Of the record; empty if it is about none.", max_length=64
                    ),
                ),
                ("kind", models.CharField(blank=True, max_length=16)),
                ("title", models.CharField(blank=True, max_length=200, verbose_name="record")),
                ("endpoint", models.CharField(blank=True, max_length=255)),
                (
                    "principal",
                    models.CharField(
                        blank=True, help_text="The owner of the record, as it is stored.", max_length=255
                    ),
                ),
                ("principal_name", models.CharField(blank=True, max_length=150, verbose_name="user")),
                ("client", models.CharField(blank=True, max_length=100)),
                (
                    "by",
                    models.CharField(
                        help_text="The user name of the operator, or shell:<account>.", max_length=150
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("batch", models.CharField(blank=True, max_length=32)),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="entries",
                        to="mcp_sessions.endingjob",
                    ),
                ),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit entries",
                "ordering": ("-pk",),
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["when"], name="mcp_audit_when"),
                    models.Index(fields=["fingerprint", "-id"], name="mcp_audit_session"),
                    models.Index(fields=["principal", "-id"], name="mcp_audit_principal"),
                    models.Index(fields=["by", "-id"], name="mcp_audit_by"),
                    models.Index(fields=["action", "-id"], name="mcp_audit_action"),
                    models.Index(fields=["job", "-id"], name="mcp_audit_job"),
                ],
            },
        ),
    ]
