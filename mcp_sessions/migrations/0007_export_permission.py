from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("mcp_sessions", "0003_personal_tokens")]

    operations = [
        migrations.AlterModelOptions(
            name="mcpsession",
            options={
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "managed": False,
                "ordering": ("-last_activity",),
                "permissions": (
                    ("expire_session", "Can force-expire MCP sessions"),
                    ("export_session", "Can export MCP sessions, and read them through the API"),
                ),
                "verbose_name": "record",
                "verbose_name_plural": "records",
            },
        ),
    ]
