from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("models_registry", "0002_artifacts"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="modelversion",
            options={
                "base_manager_name": "objects",
                "default_manager_name": "objects",
                "ordering": ("model__name", "-number"),
                "permissions": [("recall_modelversion", "Can recall model version")],
            },
        ),
        migrations.AddField(
            model_name="modelversion",
            name="recall_reason",
            field=models.CharField(blank=True, editable=False, max_length=500),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="recalled_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="scan",
            field=models.CharField(
                blank=True,
                choices=[("", "not scanned"), ("passed", "passed"), ("blocked", "blocked")],
                default="",
                editable=False,
                max_length=7,
            ),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="scan_note",
            field=models.CharField(blank=True, editable=False, max_length=500),
        ),
    ]
