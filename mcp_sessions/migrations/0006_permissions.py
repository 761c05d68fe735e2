"""A permission of its own to read what tools keep in records."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("mcp_sessions", "0004_audit")]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="mcpsession",
            options={
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "managed": False,
                "ordering": ("-last_activity",),
                "permissions": (
                    ("expire_session", "Can force-expire MCP sessions"),
                    ("view_session_state", "Can view the state of MCP sessions"),
                ),
                "verbose_name": "record",
                "verbose_name_plural": "records",
            },
        ),
    ]
