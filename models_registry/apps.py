"""The app that holds the registry."""

from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    """Registered models, their versions, aliases and grants."""

    name = "models_registry"
    verbose_name = "Model registry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the audit of grants; say how much a tenant has and what its pods may use."""
        from models_registry import grant_audit  # noqa: F401  # imported for its signal receivers
        from models_registry.mlflow import (  # noqa: F401  # imported for their endpoints
            artifact_endpoints,
            registry_endpoints,
        )
        from models_registry.models import ModelVersion, RegisteredModel
        from models_registry.pod_models import judge
        from tenants import usage
        from tenants.kubernetes import workloads

        usage.counters["models"] = RegisteredModel.objects.count
        usage.counters["versions"] = ModelVersion.objects.count
        if judge not in workloads.judges:
            workloads.judges.append(judge)
