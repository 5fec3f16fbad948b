"""The registry's rows: registered models, their versions and aliases, grants and bookmarks.

They are read through their managers and written by ``registry.py`` alone. Tags, parameters and
metrics are JSON columns: one row holds all that a page or an answer says about it, and fewer
tables mean fewer policies.
"""

from typing import Any, ClassVar, Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from guardian.managers import GroupObjectPermissionManager, UserObjectPermissionManager
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from models_registry import validators
from tenants.isolation.manager import CurrentGroupId, CurrentTenantId, CurrentUserId, TenantManager
from tenants.isolation.rls import GRANTEE_READ, SHARED_READ
from tenants.models import TenantForeignKey, TenantOwned, User


class SharedManager(models.Manager["RegisteredModel"]):
    """Models of other tenants that are granted to the acting person or tenant; read-only."""

    def get_queryset(self) -> models.QuerySet["RegisteredModel"]:
        """Return the shared models; the ids come from the grants, never by OR with own models."""
        to_person = ModelUserGrant.received.values("content_object_id")
        to_tenant = ModelGroupGrant.received.values("content_object_id")
        granted = to_person.union(to_tenant)
        return super().get_queryset().filter(pk__in=granted).exclude(tenant_id=CurrentTenantId())


class SharedThroughModelManager(models.Manager[Any]):
    """Versions or aliases of models that are granted to the acting person or tenant."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the rows whose model is shared with whoever is acting."""
        return super().get_queryset().filter(model_id__in=RegisteredModel.shared.values("pk"))


class RegisteredModel(TenantOwned):
    """A model by its name, which is unique in its tenant; its versions hold the rest."""

    counted_as = "models"

    name = models.CharField(
        max_length=validators.MAX_NAME_CHARS, validators=[validators.validate_model_name]
    )
    description = models.TextField(blank=True, max_length=validators.MAX_DESCRIPTION_CHARS)
    card = models.TextField(
        blank=True,
        max_length=validators.MAX_CARD_CHARS,
        help_text="The model card: Markdown, with YAML front matter if you like.",
    )
    owner = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    tags = models.JSONField(default=dict, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Never counts down, so that a deleted version's number is not given again.
    last_version = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[TenantManager[Self]] = TenantManager()
    shared: ClassVar[SharedManager] = SharedManager()

    extra_policies = frozenset({SHARED_READ})

    class Meta(TenantOwned.Meta):
        ordering = ("name",)
        permissions = [("share_registeredmodel", "Can share registered model")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="model_name_unique_in_tenant",
                violation_error_message="A model with this name is registered already.",
            ),
            models.UniqueConstraint(fields=["tenant", "id"], name="model_key_with_tenant"),
        ]
        indexes = [
            models.Index(fields=["tenant", "-updated_at", "-id"], name="model_newest_first"),
            models.Index(fields=["tenant", "-created_at", "-id"], name="model_by_creation"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_archived(self) -> bool:
        """Whether the model is kept for the record only."""
        return self.archived_at is not None


class ModelVersion(TenantOwned):
    """One version of a registered model; numbers are counted per model."""

    counted_as = "versions"

    class Status(models.TextChoices):
        """Whether the version can be used."""

        PENDING = "PENDING", "pending"
        READY = "READY", "ready"
        FAILED = "FAILED", "failed"

    class Stage(models.TextChoices):
        """MLflow's stages, kept for clients that still use them; aliases say it better."""

        NONE = "None"
        STAGING = "Staging"
        PRODUCTION = "Production"
        ARCHIVED = "Archived"

    class Scan(models.TextChoices):
        """What a scanner found in the version's files."""

        NONE = "", "not scanned"
        PASSED = "passed", "passed"
        BLOCKED = "blocked", "blocked"

    model = TenantForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    source = models.CharField(max_length=validators.MAX_SOURCE_CHARS, blank=True)
    # Where the files are if the source names another version, which may be deleted; else empty.
    location = models.CharField(max_length=validators.MAX_SOURCE_CHARS, blank=True, editable=False)
    run_id = models.CharField(max_length=validators.MAX_RUN_ID_CHARS, blank=True)
    run_link = models.CharField(max_length=validators.MAX_SOURCE_CHARS, blank=True)
    # MLflow's id of the logged model that the version was made from, such as m-<32 hex digits>.
    logged_model_id = models.CharField(max_length=validators.MAX_LOGGED_MODEL_ID_CHARS, blank=True)
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.READY)
    status_message = models.CharField(max_length=validators.MAX_STATUS_MESSAGE_CHARS, blank=True)
    description = models.TextField(blank=True, max_length=validators.MAX_DESCRIPTION_CHARS)
    tags = models.JSONField(default=dict, blank=True)
    params = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    stage = models.CharField(max_length=10, choices=Stage.choices, default=Stage.NONE)
    recalled_at = models.DateTimeField(null=True, blank=True, editable=False)
    # For the owning team only: other teams see that the version is recalled, not why.
    recall_reason = models.CharField(
        max_length=validators.MAX_NOTE_CHARS, blank=True, editable=False
    )
    scan = models.CharField(
        max_length=7, choices=Scan.choices, default=Scan.NONE, blank=True, editable=False
    )
    scan_note = models.CharField(max_length=validators.MAX_NOTE_CHARS, blank=True, editable=False)
    creator = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[TenantManager[Self]] = TenantManager()
    shared: ClassVar[SharedThroughModelManager] = SharedThroughModelManager()

    extra_policies = frozenset({SHARED_READ})

    class Meta(TenantOwned.Meta):
        ordering = ("model__name", "-number")
        permissions = [("recall_modelversion", "Can recall model version")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "model", "number"], name="version_number_unique_in_model"
            ),
            models.UniqueConstraint(
                fields=["tenant", "model", "id"], name="version_key_with_tenant_and_model"
            ),
            models.UniqueConstraint(fields=["tenant", "id"], name="version_key_with_tenant"),
        ]
        indexes = [
            models.Index(fields=["tenant", "-updated_at"], name="version_newest_first"),
            # Partial: few versions are in a stage, and new ones never are.
            models.Index(
                fields=["tenant", "model", "stage", "-number"],
                condition=~models.Q(stage="None"),
                name="version_of_stage",
            ),
        ]

    def __str__(self) -> str:
        return f"version {self.number}"

    @property
    def is_recalled(self) -> bool:
        """Whether the team has said that nothing may use it any more."""
        return self.recalled_at is not None

    @property
    def is_blocked(self) -> bool:
        """Whether a scanner has found what must not run."""
        return self.scan not in (self.Scan.NONE, self.Scan.PASSED)

    @property
    def is_usable(self) -> bool:
        """Whether it may run: complete, not recalled and not blocked."""
        ready = self.status == self.Status.READY
        return ready and not (self.is_recalled or self.is_blocked)

    @property
    def audit_id(self) -> UUID:
        """The model's id: what happens to a version is the model's history."""
        return self.model_id


class Alias(TenantOwned):
    """A name that points at one version of a model, and can be moved to another."""

    model = TenantForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="aliases")
    version = TenantForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(
        max_length=validators.MAX_ALIAS_CHARS, validators=[validators.validate_alias_name]
    )
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[TenantManager[Self]] = TenantManager()
    shared: ClassVar[SharedThroughModelManager] = SharedThroughModelManager()

    extra_policies = frozenset({SHARED_READ})

    class Meta(TenantOwned.Meta):
        ordering = ("name",)
        verbose_name_plural = "aliases"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "model", "name"], name="alias_unique_in_model"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "version"], name="alias_of_version"),
            models.Index(fields=["tenant", "name"], name="alias_by_name"),
        ]

    def __str__(self) -> str:
        return f"@{self.name}"

    @property
    def audit_id(self) -> UUID:
        """The model's id: alias moves are the model's history."""
        return self.model_id


class Blob(TenantOwned):
    """Bytes in the store, kept once in their tenant however many files have them.

    Never shared between tenants: a faster upload would tell one of them what the other has.
    """

    digest = models.CharField(max_length=64, editable=False)
    size = models.BigIntegerField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "digest"], name="blob_once_in_tenant"),
            models.UniqueConstraint(fields=["tenant", "id"], name="blob_key_with_tenant"),
        ]

    def __str__(self) -> str:
        return self.digest

    @property
    def key(self) -> str:
        """Where the store has the bytes; made of ids and the SHA-256 alone, never of a path."""
        return f"tenants/{self.tenant_id}/blobs/{self.digest[:2]}/{self.digest}"


def _path_field() -> "models.CharField[str, str]":
    # Collation C compares bytes, so all paths below a folder are one range of an index.
    return models.CharField(max_length=validators.MAX_PATH_CHARS, db_collation="C")


class ArtifactFile(TenantOwned):
    """A file under its path: of one version, or of the tenant's upload area (no version).

    A version's files are its own copy of the rows, not of the bytes: what is uploaded or deleted
    in the upload area later does not change a registered version.
    """

    version = TenantForeignKey(
        ModelVersion, on_delete=models.CASCADE, null=True, related_name="files"
    )
    path = _path_field()
    blob = TenantForeignKey(Blob, on_delete=models.PROTECT, related_name="files")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        ordering = ("path",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "version", "path"], name="file_once_in_version"
            ),
            models.UniqueConstraint(
                fields=["tenant", "path"],
                condition=models.Q(version=None),
                name="file_once_in_upload_area",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "blob"], name="file_of_blob")]

    def __str__(self) -> str:
        return self.path


class Upload(TenantOwned):
    """An upload that has begun and not ended: what it leaves behind is cleared away later."""

    version = TenantForeignKey(
        ModelVersion, on_delete=models.CASCADE, null=True, related_name="uploads"
    )
    path = _path_field()
    user = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    #: The store's id of a multipart upload; empty for one that is sent to this site.
    multipart_id = models.CharField(max_length=1024, blank=True)
    started_at = models.DateTimeField(default=timezone.now, editable=False)
    #: Updated while bytes arrive; an upload not seen for long has broken off.
    seen_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        indexes = [models.Index(fields=["tenant", "version", "path"], name="upload_by_path")]

    def __str__(self) -> str:
        return self.path

    @property
    def key(self) -> str:
        """Where the store keeps the bytes until all of them are there."""
        return f"tenants/{self.tenant_id}/uploads/{self.pk}"


class DownloadCount(TenantOwned):
    """How often a version was fetched on one day (UTC)."""

    version = TenantForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="downloads")
    day = models.DateField()
    count = models.PositiveIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version", "day"], name="downloads_of_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.count}"


class ReceivedManager(models.Manager[Any]):
    """Grants that name the acting person or tenant, given by other tenants."""

    def __init__(self, column: str, acting: type[models.Expression]) -> None:
        super().__init__()
        self.column = column
        self.acting = acting

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the grants received."""
        return super().get_queryset().filter(**{self.column: self.acting()})


class UserGrantManager(TenantManager["ModelUserGrant"], UserObjectPermissionManager):
    """The acting tenant's grants to people, with guardian's verbs."""


class GroupGrantManager(TenantManager["ModelGroupGrant"], GroupObjectPermissionManager):
    """The acting tenant's grants to other tenants, with guardian's verbs."""


class ModelUserGrant(TenantOwned, UserObjectPermissionBase):
    """One model, shared read-only with one person."""

    content_object = TenantForeignKey(RegisteredModel, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserGrantManager] = UserGrantManager()
    received = ReceivedManager("user_id", CurrentUserId)

    extra_policies = frozenset({GRANTEE_READ})

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user", "permission", "content_object"], name="user_grant_once"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "content_object"], name="user_grant_of_model"),
            # For the grantee's look-up, which crosses tenants and so cannot start with one.
            models.Index(fields=["user", "content_object"], name="user_grant_received"),
        ]


class ModelGroupGrant(TenantOwned, GroupObjectPermissionBase):
    """One model, shared read-only with another tenant (its group)."""

    content_object = TenantForeignKey(RegisteredModel, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[GroupGrantManager] = GroupGrantManager()
    received = ReceivedManager("group_id", CurrentGroupId)

    extra_policies = frozenset({GRANTEE_READ})

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "group", "permission", "content_object"], name="group_grant_once"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "content_object"], name="group_grant_of_model"),
            # For the grantee's look-up, which crosses tenants and so cannot start with one.
            models.Index(fields=["group", "content_object"], name="group_grant_received"),
        ]


class Bookmark(TenantOwned):
    """What one person did with one model: starred it, looked at it last."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    model = TenantForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="bookmarks")
    starred = models.BooleanField(default=False)
    viewed_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user", "model"], name="bookmark_once_per_person"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "user", "-viewed_at"], name="bookmark_recent"),
            models.Index(fields=["tenant", "model"], name="bookmark_of_model"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} → {self.model_id}"
