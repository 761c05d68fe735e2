"""Other words for what the model stands for. No table changes, because there is none."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("mcp_sessions", "0001_initial")]

    operations = [
        migrations.AlterModelOptions(
            name="mcpsession",
            options={
                "verbose_name": "record",
                "verbose_name_plural": "records",
                "ordering": ("-last_activity",),
                "permissions": (("expire_session", "Can force-expire MCP sessions"),),
                "managed": False,
                "default_permissions": ("view",),
                "base_manager_name": "objects",
            },
        ),
    ]
