"""The app that holds the registry."""

from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    """Registered models, their versions, aliases and grants."""

    name = "models_registry"
    verbose_name = "Model registry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the audit of grants, and register the endpoints."""
        from models_registry import grant_audit  # noqa: F401  # imported for its signal receivers
        from models_registry.mlflow import (  # noqa: F401  # imported for their endpoints
            artifact_endpoints,
            registry_endpoints,
        )
