"""Names of all fields, and of two models, that can be translated. The database does not change."""

from typing import ClassVar

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("mcp_sessions", "0007_job_state"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="block",
            options={
                "ordering": ("-created", "-pk"),
                "verbose_name": "block",
                "verbose_name_plural": "blocks",
            },
        ),
        migrations.AlterModelOptions(
            name="personaltoken",
            options={
                "ordering": ("-created", "-pk"),
                "verbose_name": "personal token",
                "verbose_name_plural": "personal tokens",
            },
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="action",
            field=models.CharField(max_length=32, verbose_name="action"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="batch",
            field=models.CharField(blank=True, max_length=32, verbose_name="batch"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="by",
            field=models.CharField(
                help_text="The user name of the operator, or shell:<account>.",
                max_length=150,
                verbose_name="by",
            ),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="client",
            field=models.CharField(blank=True, max_length=100, verbose_name="client"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="endpoint",
            field=models.CharField(blank=True, max_length=255, verbose_name="endpoint"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="fingerprint",
            field=models.CharField(
                blank=True,
                help_text="Of the record; empty if it is about none.",
                max_length=64,
                verbose_name="fingerprint",
            ),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="job",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="entries",
                to="mcp_sessions.endingjob",
                verbose_name="job",
            ),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="kind",
            field=models.CharField(blank=True, max_length=16, verbose_name="kind"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="outcome",
            field=models.CharField(default="done", max_length=16, verbose_name="outcome"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="principal",
            field=models.CharField(
                blank=True,
                help_text="The owner of the record, as it is stored.",
                max_length=255,
                verbose_name="principal",
            ),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="reason",
            field=models.CharField(blank=True, max_length=500, verbose_name="reason"),
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="when",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="when"),
        ),
        migrations.AlterField(
            model_name="block",
            name="by",
            field=models.CharField(editable=False, max_length=255, verbose_name="by"),
        ),
        migrations.AlterField(
            model_name="block",
            name="created",
            field=models.DateTimeField(
                default=django.utils.timezone.now, editable=False, verbose_name="created"
            ),
        ),
        migrations.AlterField(
            model_name="block",
            name="endpoint",
            field=models.CharField(
                blank=True,
                help_text="The key in MCP_SESSIONS. Empty: every endpoint.",
                max_length=255,
                verbose_name="endpoint",
            ),
        ),
        migrations.AlterField(
            model_name="block",
            name="expires",
            field=models.DateTimeField(
                blank=True, help_text="Empty: until it is lifted.", null=True, verbose_name="expires"
            ),
        ),
        migrations.AlterField(
            model_name="block",
            name="lifted",
            field=models.DateTimeField(editable=False, null=True, verbose_name="lifted"),
        ),
        migrations.AlterField(
            model_name="block",
            name="reason",
            field=models.CharField(
                blank=True,
                help_text="For operators. Clients do not see it.",
                max_length=200,
                verbose_name="reason",
            ),
        ),
        migrations.AlterField(
            model_name="block",
            name="value",
            field=models.TextField(
                help_text="A principal as records show it, a client's exact name, an IP address or a network.",
                verbose_name="value",
            ),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="action",
            field=models.CharField(max_length=32, verbose_name="action"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="by",
            field=models.CharField(
                help_text="The user name of the operator, or shell:<account>.",
                max_length=150,
                verbose_name="by",
            ),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="created",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="created"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="ended",
            field=models.PositiveBigIntegerField(default=0, verbose_name="ended"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="expected",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="How many records matched when it began, as the indexes knew it.",
                verbose_name="expected",
            ),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="finished",
            field=models.DateTimeField(null=True, verbose_name="finished"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="problem",
            field=models.CharField(
                blank=True, help_text="Why it does not go on.", max_length=500, verbose_name="problem"
            ),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="reason",
            field=models.CharField(blank=True, max_length=500, verbose_name="reason"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="selection",
            field=models.JSONField(help_text="Which records end.", verbose_name="selection"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="state",
            field=models.CharField(default="running", max_length=16, verbose_name="state"),
        ),
        migrations.AlterField(
            model_name="endingjob",
            name="unknown",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="Records that are gone, and it is not known whether this job ended them.",
                verbose_name="unknown",
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="created",
            field=models.DateTimeField(
                default=django.utils.timezone.now, editable=False, verbose_name="created"
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="endpoint",
            field=models.CharField(
                blank=True,
                help_text="The key in MCP_SESSIONS. Empty: every endpoint.",
                max_length=255,
                verbose_name="endpoint",
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="expires",
            field=models.DateTimeField(
                blank=True, help_text="Empty: never.", null=True, verbose_name="expires"
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="last_used",
            field=models.DateTimeField(
                editable=False, help_text="To the minute.", null=True, verbose_name="last used"
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="name",
            field=models.CharField(
                blank=True,
                help_text="What it is for, such as the client's name.",
                max_length=100,
                verbose_name="name",
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="revoked",
            field=models.DateTimeField(editable=False, null=True, verbose_name="revoked"),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="scopes",
            field=models.CharField(
                blank=True,
                help_text="What REQUIRED_SCOPES ask for, separated by spaces.",
                max_length=1000,
                verbose_name="scopes",
            ),
        ),
        migrations.AlterField(
            model_name="personaltoken",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="mcp_personal_tokens",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
    ]
