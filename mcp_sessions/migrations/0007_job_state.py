"""An index of the jobs by their states."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("mcp_sessions", "0006_permissions")]

    operations: ClassVar = [
        migrations.AddIndex(
            model_name="endingjob", index=models.Index(fields=["state", "id"], name="mcp_job_state")
        ),
    ]
