"""Each grant given or taken back is in the giving tenant's audit log, whoever saved the row."""

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from models_registry.models import ModelGroupGrant, ModelUserGrant
from tenants import audit


def _grantee(grant: Any) -> str:
    if isinstance(grant, ModelUserGrant):
        return grant.user.username
    return str(grant.group.name).removeprefix("tenant:")


@receiver(post_save, sender=ModelUserGrant)
@receiver(post_save, sender=ModelGroupGrant)
def record_grant(instance: Any, created: bool, **kwargs: Any) -> None:
    """Write that a model was shared."""
    if created:
        to = {"with": _grantee(instance), "permission": instance.permission.codename}
        audit.record("grant.given", instance.content_object, changes=to)


@receiver(post_delete, sender=ModelUserGrant)
@receiver(post_delete, sender=ModelGroupGrant)
def record_revocation(instance: Any, origin: Any = None, **kwargs: Any) -> None:
    """Write that a model is no longer shared; a deleted model's own event says that by itself."""
    if (
        origin is not None
        and not isinstance(origin, type(instance))
        and not _is_of(origin, instance)
    ):
        return
    audit.record("grant.revoked", instance.content_object, changes={"with": _grantee(instance)})


def _is_of(origin: Any, grant: Any) -> bool:
    return getattr(origin, "model", None) is type(grant)
