"""The Django admin of the platform: tenants, memberships, accounts, tokens; it writes by verbs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminIntegerFieldWidget, AutocompleteSelect
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from tenants import audit
from tenants.admin_site import PlatformModelAdmin, acting
from tenants.identity import directory, tokens
from tenants.models import AccountEvent, ApiToken, Membership, Tenant, User, WorkloadIdentity
from tenants.sizes import LABELS, MAX_NUMBER, MIN_NUMBERS, NUMBERS, SIZES, SizeName, wrong_numbers
from tenants.usage import usage_of

if TYPE_CHECKING:
    MembershipInlineBase = admin.TabularInline[Membership, Any]
    AnyUserAdmin = DjangoUserAdmin[User]
    TenantModelForm = forms.ModelForm[Tenant]
    MembershipModelForm = forms.ModelForm[Membership]
else:
    MembershipInlineBase = admin.TabularInline
    AnyUserAdmin = DjangoUserAdmin
    TenantModelForm = MembershipModelForm = forms.ModelForm


class MembershipsInline(MembershipInlineBase):
    """The members of a tenant, or the tenants of a person; each is changed on its own page."""

    model = Membership
    fields = readonly_fields = ("tenant", "user", "role", "reason", "expires_at")
    show_change_link = True
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave adding to the membership's own form, which asks for a reason."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave changes to the membership's own page."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read what a row shows in one query."""
        return super().get_queryset(request).select_related("tenant", "user")


def number_field(name: str) -> str:
    """Return the form's name for a number of a custom size."""
    return f"custom_{name}"


def _number(name: str) -> forms.IntegerField:
    bounds = {"min": MIN_NUMBERS.get(name, 1), "max": MAX_NUMBER}
    usual = {"placeholder": getattr(SIZES[SizeName.SMALL], name)}
    # The widget only shows the bounds to the browser; wrong_numbers checks them.
    return forms.IntegerField(
        required=False, label=LABELS[name], widget=AdminIntegerFieldWidget({**bounds, **usual})
    )


class TenantForm(TenantModelForm):
    """A tenant with its size, whose own numbers are a field each."""

    custom_cores = _number("cores")
    custom_memory = _number("memory")
    custom_scratch = _number("scratch")
    custom_gpus = _number("gpus")
    custom_pods = _number("pods")
    custom_volumes = _number("volumes")
    custom_storage = _number("storage")
    custom_services = _number("services")
    custom_secrets = _number("secrets")
    custom_config_maps = _number("config_maps")
    custom_jobs = _number("jobs")
    custom_deployments = _number("deployments")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["size"].required = False
        for name in NUMBERS:
            if name in self.instance.custom_size:
                self.initial[number_field(name)] = self.instance.custom_size[name]

    def clean_size(self) -> str:
        """Leave the size as it is where none is sent."""
        return self.cleaned_data["size"] or self.instance.size

    def clean(self) -> dict[str, Any]:
        """Collect the custom numbers; they are ignored unless the size is custom."""
        cleaned = super().clean() or self.cleaned_data
        numbers = {
            name: value
            for name in NUMBERS
            if (value := cleaned.get(number_field(name))) is not None
        }
        if cleaned.get("size") != SizeName.CUSTOM:
            numbers = {}
            for name in NUMBERS:
                self.errors.pop(number_field(name), None)
        errors = wrong_numbers(numbers)
        for name, text in errors.items():
            self.add_error(number_field(name), text)
        if not errors:
            self.instance.custom_size = numbers
        return cleaned


class NewTenantForm(TenantForm):
    """A new tenant and its first admin in one."""

    first_admin = forms.ModelChoiceField(
        User.objects.filter(is_active=True, robot_of=None),
        widget=AutocompleteSelect(Membership._meta.get_field("user"), admin.site),
        help_text="Who runs the team from now on: adds people and gives them roles.",
    )


#: The read-only fields of a tenant's page.
FIGURES = ("status", "namespace", "usage", "created_at")


@admin.register(Tenant)
class TenantAdmin(PlatformModelAdmin):
    """Tenants are made, edited, suspended and resumed here, and never deleted."""

    form = TenantForm
    list_display = (
        *("slug", "name", "status", "namespace", "size"),
        *("members", "usage", "contact", "created_at"),
    )
    list_filter = ("status", "size")
    list_per_page = 25  # each row costs its counts
    search_fields = ("slug", "name", "contact", "namespace")
    actions = ("suspend", "resume")
    inlines = (MembershipsInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        """Count the members along."""
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        return tenants.annotate(member_count=Count("memberships"))

    def get_fieldsets(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        """Ask for the first admin of a new tenant, and show the figures of one that is there."""
        more = ("first_admin",) if obj is None else FIGURES
        numbers = [number_field(name) for name in NUMBERS]
        note = "For the size “custom” alone; a number that is left empty is a small tenant's."
        return (
            (None, {"fields": ("slug", "name", "contact", "description", *more)}),
            ("Size in Kubernetes", {"fields": ("size",)}),
            ("Numbers", {"fields": numbers, "classes": ("custom-size",), "description": note}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        """Keep the slug as it was made: addresses and clusters name it."""
        return () if obj is None else ("slug", *FIGURES)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Use the larger form for a new tenant."""
        if obj is None:
            kwargs["form"] = NewTenantForm
        return super().get_form(request, obj, change, **kwargs)

    def get_inlines(self, request: HttpRequest, obj: Tenant | None) -> Any:
        """List the members of a tenant that is there."""
        return () if obj is None else super().get_inlines(request, obj)

    @admin.display(ordering="member_count")
    def members(self, tenant: Tenant) -> int:
        """How many people are in the tenant."""
        return tenant.member_count  # type: ignore[attr-defined,no-any-return]  # annotated

    @admin.display
    def usage(self, tenant: Tenant) -> str:
        """What the tenant has, in numbers."""
        return ", ".join(f"{count:,} {what}" for what, count in usage_of(tenant).items())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a tenant is suspended; history and addresses keep its name."""
        return False

    def object_actions(self, request: HttpRequest, obj: Tenant) -> dict[str, str]:
        """Offer the one of the two that changes something."""
        return {"resume": "Resume"} if obj.is_suspended else {"suspend": "Suspend"}

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: Any) -> None:
        """Save through the verbs."""
        if change:
            directory.update_tenant(obj, actor=acting(request))
        else:
            directory.add_tenant(obj, admin=form.cleaned_data["first_admin"], actor=acting(request))

    @admin.action(description="Suspend selected tenants", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Make tenants read-only for their members."""
        with transaction.atomic():
            for tenant in queryset:
                directory.suspend_tenant(tenant, acting(request))
                self.message_user(request, f"{tenant} is suspended: its members can only read.")

    @admin.action(description="Resume selected tenants", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Let the tenants' members write again."""
        with transaction.atomic():
            for tenant in queryset:
                directory.resume_tenant(tenant, acting(request))
                self.message_user(request, f"{tenant} is active: its members can write again.")


class MembershipForm(MembershipModelForm):
    """A membership; who lets themselves in says why, and until when."""

    actor: ClassVar[User]

    expires_at = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M"),
        help_text="In UTC. From then on the person is out; empty means never.",
    )

    def clean_expires_at(self) -> Any:
        """Refuse a time that has passed."""
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("This time has passed already.")
        return expires_at

    def clean(self) -> dict[str, Any]:
        """Ask for a reason and an end where platform admins open a team to themselves."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("user") == self.actor:
            for name in ("reason", "expires_at"):
                if not cleaned.get(name) and name not in self.errors:
                    self.add_error(name, "Needed to let yourself in; the team reads it.")
        return cleaned


@admin.register(Membership)
class MembershipAdmin(PlatformModelAdmin):
    """Who is in which tenant; break-glass is a membership with a reason and an end."""

    form = MembershipForm
    list_display = ("user", "tenant", "role", "reason", "expires_at", "created_at")
    list_display_links = ("user", "role")
    list_filter = ("role", ("expires_at", admin.EmptyFieldListFilter), "tenant")
    list_select_related = ("tenant", "user")
    search_fields = ("user__username", "user__email", "tenant__slug", "tenant__name")
    autocomplete_fields = ("tenant", "user")
    fields = ("tenant", "user", "role", "reason", "expires_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read the names along."""
        return super().get_queryset(request).select_related("tenant__group", "user")

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> Any:
        """Let the role change; another reason or end is another membership."""
        return () if obj is None else ("tenant", "user", "reason", "expires_at")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Use the plain form for a change of role, and tell the other who is acting."""
        if obj is not None:
            return super().get_form(request, obj, change, form=forms.ModelForm, **kwargs)
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.actor = acting(request)
        return form

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: Any) -> None:
        """Save through the verbs."""
        if change:
            directory.change_role(obj, obj.role, acting(request))
            return
        added = directory.add_member(
            obj.tenant,
            obj.user,
            obj.role,
            reason=obj.reason,
            expires_at=obj.expires_at,
            actor=acting(request),
        )
        obj.pk = added.pk

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """End the membership."""
        directory.remove_member(obj, acting(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        """End all of the memberships, or none."""
        with transaction.atomic():
            for membership in queryset:
                directory.remove_member(membership, acting(request))


#: The fields of an account whose changes by platform admins are audited.
RECORDED = ("username", "email", "first_name", "last_name", "is_staff", "is_superuser")


@admin.register(User)
class UserAdmin(PlatformModelAdmin, AnyUserAdmin):
    """Accounts are made, deactivated and activated, and never deleted: history names them."""

    list_display = (
        *("username", "display_name", "email", "robot_of"),
        *("is_active", "is_superuser", "last_login"),
    )
    list_filter = ("is_active", "is_superuser", ("robot_of", admin.EmptyFieldListFilter))
    list_select_related = ("robot_of",)
    filter_horizontal = ()
    readonly_fields = ("is_active", "last_login", "date_joined")
    actions = ("deactivate", "activate")
    inlines = (MembershipsInline,)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Personal info", {"fields": ("first_name", "last_name", "email")}),
        (
            "Platform",
            {
                "fields": ("is_active", "is_staff", "is_superuser"),
                "description": "A platform admin has both: staff and superuser status. "
                "Neither lets anybody into a team's models.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "email", "usable_password", "password1", "password2"),
            },
        ),
    )

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        """List the tenants of an account that is there."""
        return () if obj is None else super().get_inlines(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Show whose a robot is; there is no password to set."""
        if obj is None or obj.robot_of_id is None:
            return super().get_fieldsets(request, obj)
        fields = ("username", "robot_of", "is_active", "date_joined")
        note = "A robot: it has tokens, signs in nowhere, and its team's admins make and remove it."
        return ((None, {"fields": fields, "description": note}),)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Keep platform admins from locking themselves out, and robots what they are."""
        readonly = super().get_readonly_fields(request, obj)
        if obj is not None and obj.robot_of_id is not None:
            return (*readonly, "username", "robot_of")
        own = ("is_staff", "is_superuser") if obj == request.user else ()
        return (*readonly, *own)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: an account is deactivated."""
        return False

    def object_actions(self, request: HttpRequest, obj: User) -> dict[str, str]:
        """Offer the one of the two that changes something; nobody deactivates themselves."""
        if not obj.is_active:
            return {"activate": "Activate"}
        return {} if obj == request.user else {"deactivate": "Deactivate"}

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: Any) -> None:
        """Save, and write down what changed."""
        before = User.objects.filter(pk=obj.pk).values(*RECORDED).first() or {}
        super().save_model(request, obj, form, change)
        changed = {name: getattr(obj, name) for name in RECORDED}
        changed = {name: value for name, value in changed.items() if before.get(name) != value}
        if before and changed:
            old = {name: before[name] for name in changed}
            self._record(request, "account_changed", obj, {"from": old, "to": changed})
        elif not before:
            self._record(request, "account_created", obj, {"to": {"username": obj.username}})

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """Set a password, and write down that it was set."""
        with transaction.atomic():
            user: User | None = self.get_object(request, id)
            if user is not None and user.robot_of_id is not None:
                raise PermissionDenied("A robot has no password.")
            response = super().user_change_password(request, id, form_url)
            if user is not None and user.password != User.objects.get(pk=user.pk).password:
                self._record(request, "password_set", user, {})
        return response

    def _record(
        self, request: HttpRequest, action: str, user: User, changes: Mapping[str, Any]
    ) -> None:
        changes = {"by": acting(request).username, **changes}
        audit.record_account(action, user, changes=changes)

    @admin.action(description="Deactivate selected users", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Deactivate the accounts, except one's own."""
        self._set_active(request, queryset.exclude(pk=acting(request).pk), active=False)
        if queryset.filter(pk=acting(request).pk).exists():
            self.message_user(request, "You cannot deactivate your own account.", messages.ERROR)

    @admin.action(description="Activate selected users", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Activate the accounts again."""
        self._set_active(request, queryset, active=True)

    def _set_active(self, request: HttpRequest, users: QuerySet[User], *, active: bool) -> None:
        with transaction.atomic():
            for user in users:
                directory.set_active(user, active=active, actor=acting(request))
                self.message_user(request, f"{user} is {'active' if active else 'deactivated'}.")


@admin.register(ApiToken)
class ApiTokenAdmin(PlatformModelAdmin):
    """Tokens are made by their owners; here they are listed and revoked, never shown."""

    list_display = (
        *("prefix", "user", "tenant", "scope"),
        *("created_at", "last_used_at", "expires_at", "revoked_at"),
    )
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "scope", "tenant")
    list_select_related = ("user", "tenant")
    search_fields = ("prefix", "user__username", "tenant__slug")
    actions = ("revoke",)
    # The token's name is left out: it may say what a team works on.
    fields = readonly_fields = (*list_display[:4], "created_by", *list_display[4:])

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: only its owner may see a token."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: history names it."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Let every platform admin revoke."""
        return True

    def object_actions(self, request: HttpRequest, obj: ApiToken) -> dict[str, str]:
        """Offer to revoke a token that is not revoked."""
        return {} if obj.revoked_at else {"revoke": "Revoke"}

    @admin.action(description="Revoke selected tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """End the tokens at once and for good."""
        with transaction.atomic():
            for token in queryset:
                tokens.revoke_token(token, acting(request))
                self.message_user(request, f"{token.prefix}… of {token.user} is revoked.")


@admin.register(WorkloadIdentity)
class WorkloadIdentityAdmin(PlatformModelAdmin):
    """Service accounts whose pods sign in: each team's admins choose them, here they are read."""

    list_display = ("service_account", "cluster", "tenant", "role", "created_at", "last_used_at")
    list_filter = ("cluster", "tenant")
    list_select_related = ("tenant",)
    search_fields = ("service_account", "cluster", "tenant__slug")
    fields = readonly_fields = (
        *("service_account", "cluster", "tenant", "role", "user", "uid"),
        *("created_by", "created_at", "last_used_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkloadIdentity]:
        """Read the role along."""
        own = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("user"))
        found: QuerySet[WorkloadIdentity] = super().get_queryset(request)
        return found.annotate(role_now=Subquery(own.values("role")[:1]))

    @admin.display(ordering="role_now")
    def role(self, identity: WorkloadIdentity) -> str:
        """What its pods may do."""
        return identity.role_now or "none"  # type: ignore[attr-defined]  # annotated

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: the team's admins know their service accounts."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: an account is deactivated, and its pods are out."""
        return False


@admin.register(AccountEvent)
class AccountEventAdmin(PlatformModelAdmin):
    """Sign-ins and what was done to accounts: read, never changed."""

    list_display = ("created_at", "user", "action", "ip", "changes")
    list_display_links = None
    list_filter = ("action",)
    list_select_related = ("user",)
    search_fields = ("user__username", "action", "ip")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False
