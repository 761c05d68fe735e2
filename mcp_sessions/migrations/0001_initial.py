"""No table: only what Django needs to create the permissions and the content type of sessions."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="MCPSession",
            fields=[
                ("fingerprint", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("endpoint", models.CharField(max_length=255)),
                ("client_name", models.CharField(max_length=255, verbose_name="client")),
                ("protocol_version", models.CharField(max_length=32, verbose_name="protocol")),
                ("principal", models.CharField(max_length=255)),
                ("last_activity", models.DateTimeField()),
            ],
            options={
                "verbose_name": "MCP session",
                "verbose_name_plural": "MCP sessions",
                "ordering": ("-last_activity",),
                "permissions": (("expire_session", "Can force-expire MCP sessions"),),
                "managed": False,
                "default_permissions": ("view",),
                "base_manager_name": "objects",
            },
        ),
    ]
