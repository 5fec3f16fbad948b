"""Who you are: people, tenants and memberships; and the base of every row that a tenant owns."""

import re
import secrets
import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.apps import apps
from django.contrib.auth.models import AbstractUser, Group, UserManager
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Replace
from django.utils import timezone

from tenants.isolation.manager import TenantManager
from tenants.isolation.scope import current_tenant_id
from tenants.sizes import SizeName, check_custom
from tenants.workspaces import workspace_name

SLUG = r"^[a-z]([a-z0-9_-]{0,38}[a-z0-9])?\Z"

#: Slugs that would be mistaken for a part of Bulkhead, of MLflow or of a Kubernetes cluster.
RESERVED_SLUGS = frozenset(
    {
        *("admin", "ajax-api", "api", "bulkhead", "default", "health", "kubernetes", "login"),
        *("me", "metrics", "mlflow", "none", "null", "platform", "root", "shared", "static"),
        *("static-files", "system", "t", "undefined", "workspace", "workspaces"),
    }
)
RESERVED_PREFIXES = ("kube-", "openshift-")

#: A robot's user name is this prefix, its team's slug and its own name, with a dot between.
ROBOT = "robot."
ROBOT_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?")

#: A token that expires within this time is marked on its owner's page.
EXPIRES_SOON = timedelta(days=14)


def validate_slug_is_free_to_use(slug: str) -> None:
    """Raise ValidationError for a reserved slug; `_` and `-` count as equal."""
    canonical = workspace_name(slug)
    if canonical in RESERVED_SLUGS or canonical.startswith(RESERVED_PREFIXES):
        raise ValidationError(f"“{slug}” is reserved; choose another name.", code="reserved")


class User(AbstractUser):
    """A person. Being a superuser opens the platform's pages and no tenant's data."""

    #: The prefixes of permissions on tenants' data: only a role or a grant gives them.
    TENANT_DATA = ("models_registry.", "tenants.manage_members")

    # Set for a robot: it cannot sign in, and its tokens open this team alone, whatever memberships
    # it might have.
    robot_of = models.ForeignKey(
        "Tenant",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="robots",
    )

    objects: ClassVar[UserManager[Self]] = UserManager()

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(
                condition=models.Q(robot_of=None) | models.Q(is_staff=False, is_superuser=False),
                name="robot_runs_no_platform",
                violation_error_message="A robot is never a platform admin.",
            )
        ]

    def clean(self) -> None:
        """Refuse a person the user names of robots, or a robot's name could be taken elsewhere."""
        super().clean()
        if self.robot_of_id is None and self.username.casefold().startswith(ROBOT):
            raise ValidationError({"username": f"Only robots' names begin with “{ROBOT}”."})

    @property
    def robot_name(self) -> str:
        """A robot's name in its team; empty for a person."""
        return self.username.split(".", 2)[-1] if self.robot_of_id is not None else ""

    def get_session_auth_hash(self) -> str:
        """Return what a session must hold to be this account's; none is ever a robot's."""
        return secrets.token_hex() if self.robot_of_id else super().get_session_auth_hash()

    @property
    def display_name(self) -> str:
        """The full name, or the user name where none is known."""
        return self.get_full_name() or self.username

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Tell whether the person may do ``perm``, to ``obj`` if one is given.

        Django lets a superuser do everything, and whoever was given a permission do it to all rows;
        about tenants' data neither is asked, whoever it is.
        """
        if not perm.startswith(self.TENANT_DATA):
            return super().has_perm(perm, obj)
        return self._ask_backends(perm, obj)

    def _ask_backends(self, perm: str, obj: Any) -> bool:
        from django.contrib.auth import get_backends
        from django.contrib.auth.backends import ModelBackend

        if not self.is_active:
            return False
        return any(
            backend.has_perm(self, perm, obj)
            for backend in get_backends()
            if hasattr(backend, "has_perm") and not isinstance(backend, ModelBackend)
        )


class Tenant(models.Model):
    """A team. Its slug is its address, its MLflow workspace and never changes."""

    class Status(models.TextChoices):
        """A suspended tenant is read-only for its members."""

        ACTIVE = "active"
        SUSPENDED = "suspended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(
        max_length=40,
        unique=True,
        validators=[
            RegexValidator(
                SLUG,
                "Use 1 to 40 lower-case letters, digits, “-” and “_”; "
                "begin with a letter and end with a letter or a digit.",
            ),
            validate_slug_is_free_to_use,
        ],
        help_text="The team's address and MLflow workspace; it can never be changed.",
    )
    name = models.CharField(max_length=100)
    status = models.CharField(
        max_length=10, choices=Status.choices, default=Status.ACTIVE, editable=False
    )
    contact = models.CharField(
        max_length=200, blank=True, help_text="Who answers for the team: a person or an address."
    )
    description = models.TextField(max_length=2000, blank=True)
    # Set once and stored, since it finds what clusters hold; unique, so no two teams share one.
    namespace = models.CharField(max_length=63, unique=True, editable=False)
    size = models.CharField(
        max_length=6,
        choices=SizeName.choices,
        default=SizeName.SMALL,
        help_text="How much of the cluster the team may use.",
    )
    #: The numbers of a custom size; empty for the others.
    custom_size = models.JSONField(default=dict, blank=True, validators=[check_custom])
    # The group whose users are the team's members: a guardian grant to the team is one to it.
    group = models.OneToOneField(Group, on_delete=models.PROTECT, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("slug",)
        permissions = [("manage_members", "Can manage the team's members")]
        constraints = [
            models.UniqueConstraint(
                Replace("slug", models.Value("_"), models.Value("-")),
                name="tenant_slug_unique_with_dashes_equal",
                violation_error_message="A tenant with this slug (“_” and “-” are equal) exists.",
            ),
            models.CheckConstraint(
                condition=models.Q(slug__regex=r"^[a-z]([a-z0-9_-]{0,38}[a-z0-9])?$"),
                name="tenant_slug_form",
            ),
            models.CheckConstraint(
                condition=models.Q(namespace__regex=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
                name="tenant_namespace_form",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def is_suspended(self) -> bool:
        """Whether members may only read."""
        return self.status == self.Status.SUSPENDED


class Role(models.TextChoices):
    """What a member may do; each role may do all that the ones before it may."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    MAINTAINER = "maintainer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """The role's place among the roles; a higher one may do more."""
        return list(Role).index(self)


class MembershipQuerySet(models.QuerySet["Membership"]):
    """Questions about memberships."""

    def active(self) -> "MembershipQuerySet":
        """Leave out those that have expired and those of deactivated people."""
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, user__is_active=True)


class Membership(models.Model):
    """A person in a tenant with one role; with a reason and an expiry it is a break-glass one.

    It is read before a scope is open, so no row-level security guards it: views take the
    acting tenant's or the acting person's own, and nothing else.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.VIEWER)
    reason = models.CharField(
        max_length=200, blank=True, help_text="Why this person was let in; the team can read it."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on the person is out; empty means never."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ("tenant__slug", "user__username")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user"],
                name="membership_once_per_tenant",
                violation_error_message="This person is a member already; change the role instead.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} as {self.role}"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Questions about tokens."""

    def living(self) -> "ApiTokenQuerySet":
        """Leave out what was revoked or has expired."""
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())


class ApiToken(models.Model):
    """A key to the API for one person or robot; what is kept cannot be turned back into it.

    Like a membership it is read before a scope is open, so no row-level security guards it: pages
    take the acting person's own, or those of the acting team's robots, and nothing else.
    """

    class Scope(models.TextChoices):
        """What the token may do at most; the role may allow less."""

        READ = "read"
        WRITE = "write"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="tokens")
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.PROTECT,
        null=True,
        related_name="tokens",
        help_text="The only team that the token opens; empty: any team of the person.",
    )
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    scope = models.CharField(max_length=5, choices=Scope.choices, default=Scope.READ)
    # Who made the token and so has seen the secret: a robot's token ends when they leave the team.
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            # The SQL that opens a scope compares with 'read'; another spelling could write.
            models.CheckConstraint(
                condition=models.Q(scope__in=["read", "write"]), name="token_scope_is_known"
            )
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def expires_soon(self) -> bool:
        """Whether it is time to make another one."""
        return self.expires_at - timezone.now() < EXPIRES_SOON


class WorkloadIdentity(models.Model):
    """A service account of the team's namespace as which its pods sign in, without any secret.

    What it may do is the role of its robot. Like a token it is read before a scope is open, so no
    row-level security guards it: pages take those of the acting team, and nothing else.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="identities")
    user = models.OneToOneField(User, on_delete=models.PROTECT, related_name="identity")
    cluster = models.CharField(max_length=63, help_text="The cluster by its name here.")
    service_account = models.CharField(max_length=253)
    # The uid of the service account that signed in first: a new one of the same name has another
    # uid and is refused.
    uid = models.CharField(max_length=64, blank=True, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("cluster", "service_account")
        verbose_name_plural = "workload identities"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "cluster", "service_account"],
                name="identity_once_per_account",
                violation_error_message="This service account signs in here already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.service_account} in {self.cluster}"


class TenantOwned(models.Model):
    """A row that belongs to one tenant; every table of such rows stands behind both walls."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.PROTECT,
        default=current_tenant_id,
        editable=False,
        related_name="+",
        db_index=False,  # each table's own indexes start with the tenant
    )

    objects: ClassVar[TenantManager[Any]] = TenantManager()

    #: Row-level security policies beside ``tenant_isolation``; the system check knows no others.
    extra_policies: ClassVar[frozenset[str]] = frozenset()
    #: The word for these rows beside their number on the platform admins' pages; '' if not shown.
    counted_as: ClassVar[str] = ""

    class Meta:
        abstract = True
        base_manager_name = "objects"
        default_manager_name = "objects"

    def validate_constraints(self, exclude: Any = None) -> None:
        """Check uniqueness inside the tenant although no form has a field for it."""
        super().validate_constraints(exclude=set(exclude or ()) - {"tenant"})


def tenant_owned_models() -> list[type[TenantOwned]]:
    """Return every model whose rows belong to tenants; only once all apps are loaded."""
    return [model for model in apps.get_models() if issubclass(model, TenantOwned)]


class TenantForeignKey(models.ForeignKey):  # type: ignore[type-arg]
    """A reference to another row of the same tenant.

    The migration's ``SameTenant`` makes the constraint, with the tenant in it; Django's own,
    and an index that does not start with the tenant, are left out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("db_constraint", False)
        kwargs.setdefault("db_index", False)
        super().__init__(*args, **kwargs)


class Event(models.Model):
    """Something that somebody did; written once, never changed."""

    action = models.CharField(max_length=60)
    ip = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True


class AuditEvent(Event, TenantOwned):
    """What happened in a tenant: who did what to what, from → to, when, and from where."""

    actor = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    # The actor's name at that time, beside the reference: commands have no account, and a user
    # name may change.
    actor_label = models.CharField(max_length=150)
    object_type = models.CharField(max_length=40)
    object_id = models.UUIDField(null=True)
    object_label = models.CharField(max_length=256)
    changes = models.JSONField(default=dict)
    #: The clear prefix of the token that was used; empty for pages and commands.
    via = models.CharField(max_length=12, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="audit_newest_first"),
            models.Index(
                fields=["tenant", "object_id", "-created_at", "-id"], name="audit_of_one_object"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label} {self.action} {self.object_label}"


class NamespaceState(TenantOwned):
    """What the last look at the team's namespace in a cluster found; one row for each cluster.

    Written by ``tenants.kubernetes.sync`` alone. ``objects_found`` has an entry for each object of
    the bundle and each foreign one that matters: kind, name, state, and what differs. ``quota``
    holds limits and use by resource; ``workloads`` what runs there and should not.
    """

    class State(models.TextChoices):
        """Whether the namespace is what it should be."""

        IN_SYNC = "in_sync", "In sync"
        DRIFT = "drift", "Drift"
        CONFLICT = "conflict", "Not ours"
        ERROR = "error", "Error"

    cluster = models.CharField(max_length=63)
    state = models.CharField(max_length=8, choices=State.choices)
    mode = models.CharField(max_length=7)
    error = models.TextField(blank=True)
    version = models.CharField(max_length=40, blank=True, help_text="Of the cluster.")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of what is wanted.")
    objects_found = models.JSONField(default=list)
    quota = models.JSONField(default=dict)
    workloads = models.JSONField(default=list)
    warnings = models.JSONField(default=list)
    checked_at = models.DateTimeField(default=timezone.now)
    #: When the namespace was last found in sync.
    in_sync_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        ordering = ("cluster",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "cluster"], name="namespace_state_once_per_cluster"
            )
        ]

    def __str__(self) -> str:
        return f"{self.cluster}: {self.get_state_display()}"


class AccountEvent(Event):
    """What happened to an account outside any tenant, sign-ins above all; for platform admins."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    changes = models.JSONField(default=dict)

    class Meta:
        ordering = ("-created_at", "-id")

    def __str__(self) -> str:
        return f"{self.user or 'somebody'} {self.action}"
