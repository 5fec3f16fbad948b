"""System checks E001 to E006: what would break the isolation of tenants stops the start."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import OperationalError, connection, models
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string

from tenants.access import policy_of
from tenants.isolation import rls
from tenants.isolation.manager import TenantManager
from tenants.models import TenantForeignKey, TenantOwned, tenant_owned_models

#: The expression of the policy ``tenant_isolation`` as PostgreSQL prints it. It must be equal: an
#: additional OR would let other tenants' rows through.
ISOLATION = (
    "(tenant_id = ( SELECT (NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text))"
    '::uuid AS "nullif"))'
)
#: The expression of a policy ``shared_read``: the rows that the function returns, and no others.
SHARED = re.compile(rf"\((id|model_id) IN \( SELECT {rls.GRANTED}\(\) AS {rls.GRANTED}\)\)")


@register(Tags.models)
def managers_are_scoped(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """bulkhead.E003: the default and the base manager of tenant-owned rows must be the row manager.

    A second manager becomes the default one unless ``Meta(TenantOwned.Meta)`` is inherited.
    """
    return [
        Error(
            f"{model.__name__}.{kind} is {type(manager).__name__}: it shows all tenants' rows.",
            hint="Inherit Meta from TenantOwned.Meta and let `objects` be a TenantManager.",
            obj=model,
            id="bulkhead.E003",
        )
        for model in tenant_owned_models()
        for kind in ("_default_manager", "_base_manager")
        if not isinstance(manager := getattr(model, kind), TenantManager)
    ]


@register(Tags.models)
def references_keep_the_tenant(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """bulkhead.E005: a reference between tenant-owned rows must be a TenantForeignKey."""
    return [
        Error(
            f"{model.__name__}.{field.name} can point at another tenant's row.",
            hint="Make it a TenantForeignKey and add SameTenant to its migration.",
            obj=model,
            id="bulkhead.E005",
        )
        for model in tenant_owned_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
        and issubclass(field.related_model, TenantOwned)
        and not isinstance(field, TenantForeignKey)
    ]


@register()
def the_registry_answers_for_models(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """bulkhead.E007: MODEL_REFERENCES names a function, which answers for the models of pods."""
    try:
        if callable(import_string(settings.MODEL_REFERENCES)):
            return []
        problem = f"{settings.MODEL_REFERENCES} cannot be called."
    except (AttributeError, ImportError) as error:
        problem = str(error)
    return [
        Error(
            f"MODEL_REFERENCES names no function: {problem}",
            hint="It takes a Reference and returns a Verdict: see tenants.kubernetes.workloads.",
            id="bulkhead.E007",
        )
    ]


@register(Tags.urls)
def views_declare_policies(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """bulkhead.E004: every view outside the Django admin says who may call it."""
    return [
        Error(
            f"The view of “{route}” declares no access policy.",
            hint="Decorate it with public, signed_in or member of tenants.access.",
            id="bulkhead.E004",
        )
        for route, pattern in (*all_patterns(), *private_patterns())
        if policy_of(pattern.callback) is None
    ]


def private_patterns() -> Iterable[tuple[str, URLPattern]]:
    """Yield every URL pattern that is not the site's own but a private listener's."""
    for urlconf in settings.PRIVATE_URLCONFS:
        yield from all_patterns(get_resolver(urlconf).url_patterns)


def all_patterns(
    patterns: Iterable[URLPattern | URLResolver] | None = None, prefix: str = ""
) -> Iterable[tuple[str, URLPattern]]:
    """Yield every URL pattern of the site with its whole route, but for the Django admin's.

    The admin's site wraps each of its views and asks for a platform admin by itself.
    """
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route, pattern
        elif pattern.namespace != "admin":
            yield from all_patterns(pattern.url_patterns, route)


@register(Tags.database)
def the_database_holds_its_wall(databases: Sequence[str] | None = None, **kwargs: Any) -> list[Any]:
    """bulkhead.E001 and E002: the web role is unprivileged, and each table has its policies."""
    if not databases or "default" not in databases:
        return []
    try:
        with connection.cursor() as cursor:
            return [
                *_role_problems(cursor),
                *_table_problems(cursor),
                *_function_problems(cursor),
            ]
    except OperationalError as error:
        return [Error(f"The database does not answer: {error}", id="bulkhead.E006")]


def _role_problems(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute(
        """SELECT rolname, rolsuper, rolbypassrls,
                  EXISTS (SELECT FROM pg_tables
                           WHERE tableowner = rolname AND schemaname = 'public')
             FROM pg_roles WHERE rolname = current_user"""
    )
    name, *faults = cursor.fetchone()
    reasons = ("is a superuser", "has BYPASSRLS", "owns tables")
    for has_it, reason in zip(faults, reasons, strict=True):
        if has_it:
            yield Error(
                f"The database role “{name}” {reason}: row-level security would not hold.",
                hint="Let DATABASE_URL name the web role of platform/postgres/roles.sql.",
                id="bulkhead.E001",
            )


def _table_problems(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute(
        """SELECT relname, relrowsecurity AND relforcerowsecurity,
                  (SELECT jsonb_object_agg(polname, jsonb_build_array(
                              polcmd, pg_get_expr(polqual, polrelid),
                              pg_get_expr(polwithcheck, polrelid)))
                     FROM pg_policy WHERE polrelid = pg_class.oid)
             FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"""
    )
    tables = {name: (forced, json.loads(policies or "{}")) for name, forced, policies in cursor}
    for model in tenant_owned_models():
        table = model._meta.db_table
        if table not in tables:  # not migrated yet
            continue
        forced, policies = tables[table]
        expected = {rls.TENANT_ISOLATION} | model.extra_policies
        if not forced or set(policies) != expected or not all(map(_is_sound, policies.items())):
            yield Error(
                f"The table {table} is not isolated: row security "
                f"{'is' if forced else 'is not'} forced, its policies are {sorted(policies)}.",
                hint=f"Its migration must force row security and make {sorted(expected)}.",
                obj=model,
                id="bulkhead.E002",
            )


def _is_sound(policy: tuple[str, list[str | None]]) -> bool:
    """Tell whether a policy compares with the scope's settings, and only isolation lets write."""
    name, (command, using, with_check) = policy
    if name == rls.TENANT_ISOLATION:
        return command == "*" and using == with_check == ISOLATION
    if name == rls.SHARED_READ:
        return command == "r" and SHARED.fullmatch(using or "") is not None
    acting = "current_setting('bulkhead." in (using or "")
    return command == "r" and acting and " OR " not in (using or "")


def _function_problems(cursor: Any) -> Iterable[CheckMessage]:
    """Check the function that the policies ``shared_read`` call."""
    cursor.execute(
        "SELECT prosecdef, pg_get_userbyid(proowner) = current_user, prosrc FROM pg_proc "
        "WHERE proname = %s AND pronamespace = 'public'::regnamespace",
        [rls.GRANTED],
    )
    for as_owner, ours, body in cursor.fetchall():
        if as_owner or ours or body.count("current_setting('bulkhead.") != 2 or " OR " in body:
            yield Error(
                f"The function {rls.GRANTED} finds more than what is granted to the caller.",
                hint="Let the migrations make it, as tenants.isolation.rls.MakeGranted.",
                id="bulkhead.E002",
            )
