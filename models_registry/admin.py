"""The registry in the Django admin: the models of the team for which the platform admin acts.

Being a superuser gives nothing here. Without a membership there is no scope and no row; with one
the role decides, and everything is written by the verbs of registry.py.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from guardian.admin import GroupManage, GuardedModelAdmin, UserManage
from guardian.forms import GroupObjectPermissionsForm, UserObjectPermissionsForm

from models_registry import registry, validators
from models_registry.errors import Conflict
from models_registry.forms import MarkdownField, StampField
from models_registry.models import ModelVersion, RegisteredModel
from tenants.access import share, unshare
from tenants.admin_site import PlatformModelAdmin
from tenants.isolation.scope import current_scope, scope_or_none
from tenants.models import Tenant, User

if TYPE_CHECKING:
    RegisteredModelForm = forms.ModelForm[RegisteredModel]
else:
    RegisteredModelForm = forms.ModelForm


class TeamModelAdmin(PlatformModelAdmin):
    """Rows of the acting team; without a team the list is empty and no other page exists."""

    refusals = (ValidationError, Conflict)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the acting team's rows."""
        if scope_or_none() is None:
            return QuerySet(self.model).none()
        return super().get_queryset(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show the registry on the index: its lists say why they are empty."""
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Open the list to everybody on this site; for a row, ask."""
        return obj is None or self._may(request, "view", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Ask the role."""
        return self._may(request, "add")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask the role."""
        return self._may(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask the role."""
        return self._may(request, "delete", obj)

    def _may(self, request: HttpRequest, verb: str, obj: Any = None) -> bool:
        return request.user.has_perm(f"models_registry.{verb}_{self.opts.model_name}", obj)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show or save the form."""
        _require_team()
        return super().changeform_view(request, *args, **kwargs)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Ask, or delete."""
        _require_team()
        return super().delete_view(request, object_id, extra_context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Lead to the history that the team itself reads."""
        _require_team()
        return super().history_view(request, object_id, extra_context)

    def _get_obj_does_not_exist_redirect(self, *args: Any) -> HttpResponse:
        # 404 for another team's row as for one that never existed; Django would redirect.
        raise Http404

    def log_addition(self, *args: Any) -> Any:
        """Write nothing: the audit log has it; Django's log would keep names outside the walls."""

    log_change: Any = log_addition
    log_deletions: Any = log_addition


def _require_team() -> None:
    if scope_or_none() is None:
        raise Http404


class RegisteredModelAdminForm(RegisteredModelForm):
    """A registered model as the registry's own rules want it."""

    name = forms.CharField(
        max_length=validators.MAX_NAME_CHARS,
        strip=False,
        widget=AdminTextInputWidget,
        help_text="Any text without / and :, unique in the team; it stays as it is.",
    )
    description = MarkdownField(
        required=False,
        strip=False,
        max_length=validators.MAX_DESCRIPTION_CHARS,
        widget=AdminTextareaWidget(attrs={"rows": 3}),
    )
    card = MarkdownField(
        required=False,
        strip=False,
        label="Model card",
        max_length=validators.MAX_CARD_CHARS,
        widget=AdminTextareaWidget(attrs={"rows": 20}),
        help_text="Markdown; it may begin with YAML front matter between two lines of ---.",
    )
    expected = StampField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["expected"] = self.instance.updated_at
        if "owner" in self.fields:
            team = Q(memberships__tenant_id=current_scope().tenant_id)
            people = User.objects.filter(team | Q(pk=self.instance.owner_id)).distinct()
            self.fields["owner"].queryset = people  # type: ignore[attr-defined]

    def _get_validation_exclusions(self) -> set[str]:
        # Django skips a unique constraint with a field that the form lacks, and the tenant is none.
        return super()._get_validation_exclusions() - {"tenant"}  # type: ignore[misc,no-any-return]

    def clean_tags(self) -> dict[str, str]:
        """Check the tags by the registry's rules."""
        tags = self.cleaned_data["tags"] or {}
        validators.validate_tags(tags)
        return dict(tags)


class ArchivedFilter(admin.SimpleListFilter):
    """Whether models are archived."""

    title = parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the two answers."""
        return [("no", "No"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the models that match."""
        if self.value() is None:
            return queryset
        return queryset.filter(archived_at__isnull=self.value() != "yes")


@admin.register(RegisteredModel)
class RegisteredModelAdmin(TeamModelAdmin, GuardedModelAdmin):
    """The team's models: registered, edited, archived, shared; deleted once they are archived."""

    form = RegisteredModelAdminForm
    list_display = ("name", "owner", "last_version", "archived_at", "updated_at")
    list_filter = (
        ArchivedFilter,
        ("owner", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("owner",)
    search_fields = ("name", "description", "card")
    date_hierarchy = "created_at"
    actions = ("archive", "restore")
    change_form_template = "admin/models_registry/registeredmodel/change_form.html"  # type: ignore[misc]  # the stubs disagree
    obj_perms_manage_template: str = "admin/models_registry/registeredmodel/permissions.html"

    def get_fields(self, request: HttpRequest, obj: RegisteredModel | None = None) -> Any:
        """Show what cannot be typed in too, once the model is there."""
        typed = ("name", "description", "tags", "owner", "card")
        if obj is None:
            return typed
        stamp = ("expected",) if self.has_change_permission(request, obj) else ()
        return (*typed, *stamp, "all_versions", "all_aliases", "archived_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: RegisteredModel | None = None) -> Any:
        """Keep the name: code refers to it."""
        shown = ("all_versions", "all_aliases", "archived_at", "updated_at")
        return () if obj is None else ("name", *shown)

    @admin.display(description="Versions")
    def all_versions(self, model: RegisteredModel) -> str:
        """Lead to the list of the model's versions."""
        url = reverse("admin:models_registry_modelversion_changelist")
        count = model.versions.count()
        return format_html('<a href="{}?model__id__exact={}">{}</a>', url, model.pk, count)

    @admin.display(description="Aliases")
    def all_aliases(self, model: RegisteredModel) -> str:
        """Say which alias points where."""
        aliases = model.aliases.select_related("version")
        return ", ".join(f"{alias} → {alias.version}" for alias in aliases) or "-"

    def has_delete_permission(
        self, request: HttpRequest, obj: RegisteredModel | None = None
    ) -> bool:
        """Ask the role; what is in use is archived first."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_archived)

    def object_actions(self, request: HttpRequest, obj: RegisteredModel) -> dict[str, str]:
        """Offer the one of the two that changes something."""
        return {"restore": "Restore"} if obj.is_archived else {"archive": "Archive"}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Tell the template whether grants may be given."""
        context["can_share"] = self._may(request, "share", kwargs.get("obj"))
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: RegisteredModel, form: Any, change: Any
    ) -> None:
        """Save through the verbs; ``obj`` becomes what they saved."""
        given = form.cleaned_data
        typed = {name: given[name] for name in ("description", "tags", "owner", "card")}
        if change:
            saved = registry.update_model(obj, expected=given["expected"], **typed)
        else:
            saved = registry.register_model(given["name"], **typed)
        obj.__dict__.update(saved.__dict__)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name the models, and count what goes with them; the verb asks for all the rest."""
        _refuse_unarchived(objs)
        ids = [model.pk for model in objs]
        counts = {
            "registered models": len(ids),
            "versions": ModelVersion.objects.filter(model_id__in=ids).count(),
        }
        return [str(model) for model in objs], counts, set(), []

    def delete_model(self, request: HttpRequest, obj: RegisteredModel) -> None:
        """Delete an archived model."""
        registry.delete_model(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RegisteredModel]) -> None:
        """Delete all of them, or none."""
        with transaction.atomic():
            for model in queryset:
                registry.delete_model(model)

    @admin.action(description="Archive selected registered models", permissions=["delete"])
    def archive(self, request: HttpRequest, queryset: QuerySet[RegisteredModel]) -> None:
        """Keep the models for the record only."""
        with transaction.atomic():
            for model in queryset:
                registry.archive_model(model)
                self.message_user(request, f"{model} is archived.")

    @admin.action(description="Restore selected registered models", permissions=["delete"])
    def restore(self, request: HttpRequest, queryset: QuerySet[RegisteredModel]) -> None:
        """Take the models out of the archive."""
        with transaction.atomic():
            for model in queryset:
                registry.restore_model(model)
                self.message_user(request, f"{model} is restored.")

    # --- guardian's pages: who outside the team may read one model ---

    def obj_perms_manage_view(self, request: HttpRequest, object_pk: str) -> Any:
        """List the grants of one model."""
        self._require_shareable(request, object_pk)
        guardian: Any = super()
        return guardian.obj_perms_manage_view(request, object_pk)

    def obj_perms_manage_user_view(self, request: HttpRequest, object_pk: str, user_id: str) -> Any:
        """Give one person the grant, or take it back."""
        self._require_shareable(request, object_pk, user_id)
        guardian: Any = super()
        return guardian.obj_perms_manage_user_view(request, unquote(object_pk), user_id)

    def obj_perms_manage_group_view(
        self, request: HttpRequest, object_pk: str, group_id: str
    ) -> Any:
        """Give another team the grant, or take it back."""
        self._require_shareable(request, object_pk, group_id)
        guardian: Any = super()
        return guardian.obj_perms_manage_group_view(request, unquote(object_pk), group_id)

    def _require_shareable(self, request: HttpRequest, object_pk: str, grantee: str = "0") -> None:
        model = self.get_object(request, unquote(object_pk))
        if model is None or not grantee.isdecimal():
            raise Http404
        if not self._may(request, "share", model):
            raise PermissionDenied

    def get_obj_perms_base_context(
        self, request: HttpRequest, obj: RegisteredModel
    ) -> dict[str, Any]:
        """Show the one permission that can be granted."""
        guardian: Any = super()
        context: dict[str, Any] = guardian.get_obj_perms_base_context(request, obj)
        context["model_perms"] = Permission.objects.filter(
            content_type__app_label="models_registry", codename=GRANTED
        )
        return context

    def get_obj_perms_user_select_form(self, request: HttpRequest) -> type[forms.Form]:
        """Let a person be named as they sign in."""
        return PersonForm

    def get_obj_perms_group_select_form(self, request: HttpRequest) -> type[forms.Form]:
        """Let a team be named by its slug."""
        return TeamForm

    def get_obj_perms_manage_user_form(self, request: HttpRequest) -> type[forms.Form]:
        """Offer the one permission that can be granted."""
        return UserGrantForm

    def get_obj_perms_manage_group_form(self, request: HttpRequest) -> type[forms.Form]:
        """Offer the one permission that can be granted."""
        return TeamGrantForm


def _refuse_unarchived(models: Any) -> None:
    names = [f"“{model}”" for model in models if not model.is_archived]
    if names:
        raise ValidationError(
            f"Only archived models can be deleted; archive {', '.join(names)} first."
        )


#: The one permission that can be granted: row-level security lets no other team write.
GRANTED = "view_registeredmodel"


class PersonForm(UserManage):
    """The person with whom a model is shared."""

    user = forms.CharField(
        label="Person",
        max_length=150,
        help_text="The user name.",
        error_messages={"does_not_exist": "There is nobody of this user name."},
    )


class TeamForm(GroupManage):
    """The team that a model is shared with."""

    group = forms.CharField(label="Team", max_length=80, help_text="The team's slug.")

    def clean_group(self) -> Any:
        """Return the team's group."""
        slug = self.cleaned_data["group"].removeprefix("tenant:")
        tenant = Tenant.objects.filter(slug=slug).select_related("group").first()
        if tenant is None or tenant.pk == current_scope().tenant_id:
            raise ValidationError("There is no other team of this slug.")
        return tenant.group


class _GrantForm:
    """One permission to tick, given and taken back by the same verbs as everywhere."""

    def get_obj_perms_field_choices(self) -> list[tuple[str, str]]:
        return [(GRANTED, "Can read this model")]

    def get_obj_perms_field_widget(self) -> Any:
        return forms.CheckboxSelectMultiple

    def save_obj_perms(self) -> None:
        verb = share if self.cleaned_data["permissions"] else unshare  # type: ignore[attr-defined]
        verb(self.obj, **self.grantee())  # type: ignore[attr-defined]


class UserGrantForm(_GrantForm, UserObjectPermissionsForm):
    """Whether one person may read one model."""

    def grantee(self) -> dict[str, Any]:
        """Name the person."""
        return {"with_user": self.user}


class TeamGrantForm(_GrantForm, GroupObjectPermissionsForm):
    """Whether another team may read one model."""

    def grantee(self) -> dict[str, Any]:
        """Name the team."""
        return {"with_tenant": self.group.tenant}


@admin.register(ModelVersion)
class ModelVersionAdmin(TeamModelAdmin):
    """The versions of the team's models, to look at: they are added by those who train them."""

    list_display = ("number", "model", "status", "stage", "creator", "created_at")
    list_filter = ("status", "stage")
    list_select_related = ("model", "creator")
    search_fields = ("model__name", "description", "source", "run_id")
    date_hierarchy = "created_at"
    fields = (
        *("model", "number", "status", "status_message", "stage", "description"),
        *("recalled_at", "recall_reason", "scan", "scan_note"),
        *("source", "run_id", "run_link", "tags", "params", "metrics"),
        *("creator", "created_at", "updated_at"),
    )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let the page of a model lead to its versions."""
        return lookup == "model__id__exact" or super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False
