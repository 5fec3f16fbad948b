"""The registry's pages. Each view's first line says who may call it; writes go to registry.py.

A model, version or alias that is not the acting team's is 404, whether it exists elsewhere or not.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from models_registry import queries, registry, validators
from models_registry.errors import Conflict
from models_registry.files import mlmodel
from models_registry.forms import (
    SHOWS,
    AddVersionForm,
    AliasForm,
    AliasNameForm,
    DeleteForm,
    EditForm,
    EditVersionForm,
    FilterForm,
    RecallForm,
    RegisterForm,
    ShareForm,
    UnshareForm,
)
from models_registry.models import ModelVersion, RegisteredModel
from tenants import access
from tenants.access import member
from tenants.forms import VerbForm
from tenants.isolation.scope import current_scope
from tenants.paging import render_page
from tenants.requests import require_get_or_post

MAX_COMPARED_VERSIONS = 4
VERSIONS_ON_MODEL_PAGE = 10


@member
@require_safe
def team_home(request: HttpRequest, tenant: str) -> HttpResponse:
    """Show what matters to me in this team: starred, recent, newest, this week's alias moves."""
    return render(request, "models_registry/team_home.html", queries.home())


@member
@require_safe
def model_list(request: HttpRequest, tenant: str) -> HttpResponse:
    """List the team's models: search, filters and order stand in the URL."""
    form = FilterForm(request.GET)
    chosen = form.chosen()
    found = queries.models_like(chosen)
    context: dict[str, Any] = {
        "filter": chosen,
        "chosen": vars(chosen),
        "count": found.count(),
        "facets": queries.facets(),
        "sorts": {word: label for word, (label, _) in queries.SORTS.items()},
        "shows": [(word, label, chosen.url(show=word)) for word, label in SHOWS],
        "sort_by_name": chosen.url(sort="-name" if chosen.sort == "name" else "name"),
        "sort_by_updated": chosen.url(sort="updated"),
        "query": chosen.url(),
    }
    partial = request.htmx and not request.htmx.history_restore_request  # type: ignore[attr-defined]  # django-htmx
    template = "models_registry/_model_list.html" if partial else "models_registry/model_list.html"
    rows = queries.for_list(found)
    return render_page(request, template, rows, chosen.order, **context)


@member("models_registry.add_registeredmodel")
@require_get_or_post
def register_model(request: HttpRequest, tenant: str) -> HttpResponse:
    """Register a model by hand."""
    form = RegisterForm(request.POST or None)
    if form.is_valid() and (model := _try(form, registry.register_model, **form.cleaned_data)):
        messages.success(request, f"{model.name} is registered.")
        return redirect("model", tenant, model.name)
    return _form(request, "models_registry/register_model.html", form)


@member
@require_safe
def model_page(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Show one model: card, versions, aliases, tags, charts, who has access, what happened."""
    model = _model(name)
    if not current_scope().suspended:
        registry.record_view(model)
    newest = queries.with_pulls(queries.versions_of(model)).order_by("-number")
    versions = list(newest[: queries.CHARTED_VERSIONS])
    context = {
        "model": model,
        "usage": queries.usage_of(model),
        "versions": versions[:VERSIONS_ON_MODEL_PAGE],
        "latest": versions[0] if versions else None,
        "aliases": queries.ranked(queries.aliases_of(model)),
        "series": queries.metric_series(versions),
        "access": queries.access_to(model),
    }
    return render(request, "models_registry/model.html", context)


@member("models_registry.change_registeredmodel")
@require_get_or_post
def edit_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Edit a model's description, card and tags; a change made meanwhile is not overwritten."""
    model = _model(name)
    form = EditForm(request.POST) if request.method == "POST" else EditForm.of(model)
    if form.is_valid() and _try(form, registry.update_model, model, **form.cleaned_data):
        messages.success(request, "Saved.")
        return redirect("model", tenant, name)
    return _form(request, "models_registry/edit_model.html", form, model=model)


@member("models_registry.delete_registeredmodel")
@require_POST
def archive_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Archive a model."""
    registry.archive_model(_model(name))
    messages.success(request, f"{name} is archived. Its aliases still work.")
    return redirect("model", tenant, name)


@member("models_registry.delete_registeredmodel")
@require_POST
def restore_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Take a model out of the archive."""
    registry.restore_model(_model(name))
    messages.success(request, f"{name} is active again.")
    return redirect("model", tenant, name)


@member("models_registry.delete_registeredmodel")
@require_get_or_post
def delete_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Delete an archived model for good, once its name is typed."""
    model = _model(name)
    form = DeleteForm(request.POST or None, expected=model.name)
    if form.is_valid():
        try:
            registry.delete_model(model)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, f"{name} is deleted.")
            return redirect("models", tenant)
    context = {
        "model": model,
        "aliases": queries.aliases_of(model),
        "usage": queries.usage_of(model),
    }
    return _form(request, "models_registry/delete_model.html", form, **context)


@member
@require_POST
def star_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Star a model, or take the star away (``on=0``)."""
    model = _model(name)
    model.starred = request.POST.get("on") != "0"  # type: ignore[attr-defined]  # as annotated by queries
    registry.star(model, model.starred)  # type: ignore[attr-defined]
    if request.htmx:  # type: ignore[attr-defined]  # django-htmx
        return render(request, "models_registry/_starred.html", {"model": model})
    return redirect("model", tenant, name)


@member
@require_safe
def model_access(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Show who may see the model, and why."""
    model = _model(name)
    context = {"model": model, "access": queries.access_to(model)}
    return render(request, "models_registry/model_access.html", context)


@member("models_registry.share_registeredmodel")
@require_get_or_post
def share_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Share the model, read-only, with the team whose address is given."""
    model = _model(name)
    form = ShareForm(request.POST or None)
    if form.is_valid():
        team = form.cleaned_data["address"]
        access.share(model, with_tenant=team)
        messages.success(request, f"{team.name} can read {model.name} now.")
        return redirect("model_access", tenant, name)
    return _form(request, "models_registry/share_model.html", form, model=model)


@member("models_registry.share_registeredmodel")
@require_POST
def unshare_model(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Take a grant back; the team or the person is out at the next request."""
    model = _model(name)
    form = UnshareForm(request.POST)
    if not form.is_valid():
        raise Http404
    granted = queries.access_to(model)
    for team in granted.teams:
        if team.pk == form.cleaned_data["team"]:
            access.unshare(model, with_tenant=team)
            messages.success(request, f"{team.name} can no longer read {model.name}.")
    for grant in granted.people:
        if grant.user_id == form.cleaned_data["person"]:
            access.unshare(model, with_user=grant.user)
            messages.success(request, f"{grant.user.display_name} can no longer read {model.name}.")
    return redirect("model_access", tenant, name)


@member
@require_safe
def model_history(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Show what happened to the model, newest first."""
    model = _model(name)
    return render_page(
        request,
        "models_registry/model_history.html",
        queries.history_of(model.pk),
        ("-created_at", "-id"),
        model=model,
    )


@member
@require_safe
def version_list(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """List all versions of a model."""
    model = _model(name)
    count = queries.versions_of(model).count()
    return render_page(
        request,
        "models_registry/versions.html",
        queries.with_pulls(queries.versions_of(model)),
        ("-number",),
        model=model,
        caption=f"{count} version{'' if count == 1 else 's'}",
    )


@member("models_registry.add_modelversion")
@require_get_or_post
def add_version(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Add a version by hand: one whose files are elsewhere, or one that waits for its files."""
    model = _model(name)
    form = AddVersionForm(request.POST or None)
    if form.is_valid() and (version := _try(form, registry.add_version, model, **form.fields_of())):
        if version.status == ModelVersion.Status.PENDING:
            messages.success(request, f"Version {version.number} waits for its files.")
            return redirect("files", tenant, name, version.number)
        messages.success(request, f"Version {version.number} is added.")
        return redirect("version", tenant, name, version.number)
    return _form(request, "models_registry/add_version.html", form, model=model)


@member
@require_safe
def version_page(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Show one version."""
    version = find_version(name, number)
    extent = queries.extent_of(version)
    context = {
        "model": version.model,
        "version": version,
        "extent": extent,
        "mlmodel": mlmodel.of_version(version) if extent.files else None,
        "usage": queries.usage_of(version),
    }
    return render(request, "models_registry/version.html", context)


@member("models_registry.change_modelversion")
@require_get_or_post
def edit_version(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Edit a version's description, tags and status."""
    version = find_version(name, number)
    posted = request.method == "POST"
    form = EditVersionForm.of(version, request.POST if posted else None)
    if form.is_valid() and _try(form, registry.update_version, version, **form.cleaned_data):
        messages.success(request, "Saved.")
        return redirect("version", tenant, name, number)
    context = {"model": version.model, "version": version}
    return _form(request, "models_registry/edit_version.html", form, **context)


@member("models_registry.delete_modelversion")
@require_get_or_post
def delete_version(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Delete a version to which no alias points."""
    version = find_version(name, number)
    form = VerbForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            registry.delete_version(version)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, f"Version {number} is deleted.")
            return redirect("model", tenant, name)
    context = {
        "model": version.model,
        "version": version,
        "extent": queries.extent_of(version),
        "usage": queries.usage_of(version),
    }
    return _form(request, "models_registry/delete_version.html", form, **context)


@member("models_registry.recall_modelversion")
@require_get_or_post
def recall_version(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Recall a version: nothing may use it any more, for the reason given."""
    version = find_version(name, number)
    form = RecallForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _try(form, registry.recall_version, version, **form.cleaned_data):
        messages.success(request, f"Version {number} is recalled.")
        return redirect("version", tenant, name, number)
    return _verdict_form(request, "models_registry/recall_version.html", form, version)


@member("models_registry.recall_modelversion")
@require_get_or_post
def withdraw_recall(request: HttpRequest, tenant: str, name: str, number: int) -> HttpResponse:
    """Withdraw a recall: the version may be used again."""
    version = find_version(name, number)
    form = VerbForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _try(form, registry.withdraw_recall, version):
        messages.success(request, f"Version {number} can be used again.")
        return redirect("version", tenant, name, number)
    return _verdict_form(request, "models_registry/withdraw_recall.html", form, version)


def _verdict_form(
    request: HttpRequest, template: str, form: VerbForm, version: ModelVersion
) -> HttpResponse:
    return _form(request, template, form, model=version.model, version=version)


@member("models_registry.change_alias")
@require_get_or_post
def set_alias(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Move an alias: the page shows from → to, and the move is refused if it moved meanwhile."""
    model = _model(name)
    if request.method != "POST":
        asked = {key: request.GET.get(key, "") for key in ("alias", "version")}
        return _alias_page(request, model, AliasForm(initial=asked))
    form = AliasForm(request.POST)
    if form.is_valid():
        alias, number = form.cleaned_data["alias"], form.cleaned_data["version"]
        expected = form.cleaned_data["expected"]
        try:
            if _try(form, registry.set_alias, model, alias, number, expected=expected):
                messages.success(request, f"@{alias} points at version {number}.")
                return redirect("model", tenant, name)
        except registry.AliasMoved as moved:
            return _alias_page(request, model, form, HTTPStatus.CONFLICT, moved=moved)
    return _alias_page(request, model, form, HTTPStatus.UNPROCESSABLE_ENTITY)


def _alias_page(
    request: HttpRequest,
    model: RegisteredModel,
    form: AliasForm,
    status: int = HTTPStatus.OK,
    moved: registry.AliasMoved | None = None,
) -> HttpResponse:
    numbers = {alias.name: alias.version.number for alias in queries.aliases_of(model)}
    versions = queries.versions_of(model).order_by("-number").values_list("number", flat=True)
    context = {
        "model": model,
        "form": form,
        "moved": moved,
        # The next attempt expects the alias to point where it does while this page is made.
        "from": numbers.get(str(form["alias"].value() or "")),
        "versions": versions[:100],
    }
    return render(request, "models_registry/set_alias.html", context, status=status)


@member("models_registry.delete_alias")
@require_POST
def delete_alias(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Delete an alias; refused if it moved since the page was made."""
    model = _model(name)
    form = AliasNameForm(request.POST)
    if not form.is_valid():
        raise Http404
    alias = form.cleaned_data["alias"]
    try:
        registry.delete_alias(model, alias, expected=form.cleaned_data["expected"])
    except registry.AliasMoved as moved:
        messages.error(request, f"@{alias} was not deleted. {moved}")
    else:
        messages.success(request, f"@{alias} is deleted.")
    return redirect("model", tenant, name)


@member
@require_safe
def compare(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Compare 2 to 4 versions (``?v=3&v=7``); only what differs unless ``all=1``."""
    model = _model(name)
    chosen = _numbers(request.GET.getlist("v"))[:MAX_COMPARED_VERSIONS]
    of_model = queries.versions_of(model)
    found = {version.number: version for version in of_model.filter(number__in=chosen)}
    versions = [found[number] for number in chosen if number in found]
    everything = request.GET.get("all") == "1"
    context = {
        "model": model,
        "versions": versions,
        "enough": len(versions) > 1,
        "chosen": chosen,
        "all": everything,
        "sections": _differences(versions, everything),
        "choices": of_model.order_by("-number").values_list("number", flat=True)[:50],
    }
    return render(request, "models_registry/compare.html", context)


def _numbers(texts: list[str]) -> list[int]:
    """Return the version numbers among ``texts``, each once, in their order."""
    return list(dict.fromkeys(int(text) for text in texts if text.isdecimal() and len(text) < 10))


def _differences(
    versions: list[ModelVersion], everything: bool
) -> list[tuple[str, list[tuple[str, list[Any], bool]]]]:
    """Return for each section its rows (name, a value for each version, whether they differ)."""
    columns: dict[str, list[dict[str, Any]]] = {
        "Metrics": [version.metrics for version in versions],
        "Parameters": [version.params for version in versions],
        "Tags": [version.tags for version in versions],
        "Version": [
            {
                "status": version.get_status_display(),
                "source": version.source,
                "run": version.run_id,
                "description": version.description,
            }
            for version in versions
        ],
    }
    sections = []
    for title, values in columns.items():
        rows = []
        for key in sorted({key for column in values for key in column}):
            row = [column.get(key) for column in values]
            differs = any(value != row[0] for value in row)
            if differs or everything:
                rows.append((key, row, differs))
        if rows:
            sections.append((title, rows))
    return sections


# --- shared with us ------------------------------------------------------------------------


@member
@require_safe
def shared_models(request: HttpRequest, tenant: str) -> HttpResponse:
    """List the models that other teams share with me or with my team."""
    return render(request, "models_registry/shared.html", {"models": queries.shared_models()})


@member
@require_safe
def shared_model(request: HttpRequest, tenant: str, pk: UUID) -> HttpResponse:
    """Show a shared model, read-only, without history and without names of people."""
    model = _shared(pk)
    versions = list(queries.shared_versions(model)[: queries.CHARTED_VERSIONS])
    context = {
        "model": model,
        "versions": versions,
        "aliases": queries.shared_aliases(model),
        "series": queries.metric_series(versions),
    }
    return render(request, "models_registry/shared_model.html", context)


@member
@require_safe
def shared_version(request: HttpRequest, tenant: str, pk: UUID, number: int) -> HttpResponse:
    """Show a version of a shared model, read-only."""
    model = _shared(pk)
    version = queries.shared_versions(model).filter(number=number).first()
    if version is None:
        raise Http404
    aliases = queries.shared_aliases(model).get(version.pk, [])
    context = {"model": model, "version": version, "aliases": aliases}
    return render(request, "models_registry/shared_version.html", context)


# --- shared by the views -------------------------------------------------------------------


def _model(name: str) -> RegisteredModel:
    try:
        validators.validate_model_name(name)
    except ValidationError:
        raise Http404 from None
    model = queries.model_with_star(name)
    if model is None:
        raise Http404
    return model


def find_version(name: str, number: int) -> ModelVersion:
    """Return the acting team's version with its model and creator; raises Http404."""
    version = queries.versions_of(_model(name)).select_related("model", "creator")
    found = version.filter(number=number).first()
    if found is None:
        raise Http404
    return found


def _shared(pk: UUID) -> RegisteredModel:
    model = queries.shared_models().filter(pk=pk).first()
    if model is None:
        raise Http404
    return model


def _try(form: VerbForm, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what ``verb`` returns, or None after its errors were added to the form."""
    try:
        return verb(*args, **kwargs)
    except ValidationError as error:
        form.add_verb_errors(error)
    except registry.AliasMoved:
        raise
    except Conflict as conflict:
        form.add_error(None, str(conflict))
    return None


def _form(request: HttpRequest, template: str, form: Any, **context: Any) -> HttpResponse:
    """Show a form; one with errors keeps what was typed and answers 422."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
    return render(request, template, {"form": form, **context}, status=status)
