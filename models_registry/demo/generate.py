"""Makes up teams with many models, to see how Bulkhead carries them; and takes them away again.

The verbs write one model and its history at a time. Here one statement fills a whole team, so no
history of the models is made up; but it runs as the web role inside the team's scope, behind
both walls, and the rows are such as the verbs would have written.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction

from models_registry.models import (
    Alias,
    ArtifactFile,
    Blob,
    Bookmark,
    DownloadCount,
    ModelGroupGrant,
    ModelUserGrant,
    ModelVersion,
    RegisteredModel,
    Upload,
)
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.isolation.statements import SET
from tenants.models import AuditEvent, Membership, NamespaceState, Role, Tenant, TenantOwned, User

PREFIX = "bench"
#: The contact of each generated team: it tells them from teams that people gave such a name.
CONTACT = "manage.py generate_models"
#: The account that is a member of generated teams, of at most MEMBERSHIPS: its switcher lists them.
MEMBER = "bench"
MEMBERSHIPS = 10
#: Teams filled at the same time, each through a connection of its own.
AT_ONCE = 2

#: The tables to empty, in this order: each before the tables that it refers to.
TABLES: tuple[type[TenantOwned], ...] = (
    Bookmark,
    ModelUserGrant,
    ModelGroupGrant,
    Alias,
    DownloadCount,
    Upload,
    ArtifactFile,
    Blob,
    ModelVersion,
    RegisteredModel,
    NamespaceState,
    AuditEvent,
)

# The models' names are the same at each run, so a run that was interrupted is taken up again;
# the rest is random, with a fixed seed for each team.
SEED = "SELECT setseed(%s)"
FILL = """
WITH drawn AS MATERIALIZED (
    SELECT n,
           (%(subjects)s::text[])[1 + n %% %(subject_count)s] AS subject,
           (%(tasks)s::text[])[1 + floor(random() * %(task_count)s)::int] AS task,
           (%(frameworks)s::text[])[1 + floor(random() * %(framework_count)s)::int] AS framework,
           now() - random() * interval '700 days' AS created_at,
           random() AS age,
           random() AS fate
      FROM generate_series(1, %(models)s) AS n
), model AS (
    INSERT INTO models_registry_registeredmodel
           (id, tenant_id, name, description, card, owner_id, tags, archived_at, last_version,
            created_at, updated_at)
    SELECT gen_random_uuid(), %(tenant)s, subject || '-' || lpad(n::text, 6, '0'),
           'Tells how likely ' || subject || ' is, for ' || task || ' number ' || n || '.',
           format(%(card)s, framework, task, initcap(subject), subject, n),
           CASE WHEN fate < 0.8 THEN %(owner)s::bigint END,
           jsonb_build_object('framework', framework, 'task', task, 'tier', 1 + n %% 3 || ''),
           CASE WHEN fate > 0.96 THEN now() END,
           %(versions)s, created_at, created_at + age * (now() - created_at)
      FROM drawn
        ON CONFLICT (tenant_id, name) DO NOTHING
 RETURNING id, name, owner_id, tags, created_at, updated_at
), version AS (
    INSERT INTO models_registry_modelversion
           (id, tenant_id, model_id, number, source, location, run_id, run_link, logged_model_id,
            status, status_message, description, tags, params, metrics, stage, recall_reason,
            scan, scan_note, creator_id, created_at, updated_at)
    SELECT gen_random_uuid(), %(tenant)s, model.id, number,
           's3://' || %(slug)s || '/' || model.name || '/' || number, '',
           replace(gen_random_uuid()::text, '-', ''), '', '',
           CASE WHEN random() < 0.98 THEN 'READY' ELSE 'FAILED' END, '',
           'Trained on the data of week ' || number || '.',
           jsonb_build_object('framework', model.tags -> 'framework'),
           jsonb_build_object('learning_rate', round((random() / 10)::numeric, 4)::text,
                              'max_depth', 3 + floor(random() * 9)::int || '', 'seed', '42'),
           jsonb_build_object('auc', round((0.7 + random() * 0.29)::numeric, 4),
                              'log_loss', round((random() * 0.7)::numeric, 4),
                              'recall', round((0.5 + random() * 0.5)::numeric, 4)),
           'None', '', '', '', model.owner_id,
           moment.at, moment.at
      FROM model
     CROSS JOIN generate_series(1, %(versions)s) AS number
     CROSS JOIN LATERAL (
           SELECT model.created_at
                  + (model.updated_at - model.created_at) * number / %(versions)s AS at) AS moment
 RETURNING id, model_id, number, updated_at
), alias AS (
    INSERT INTO models_registry_alias (id, tenant_id, model_id, version_id, name, updated_at)
    SELECT gen_random_uuid(), %(tenant)s, model_id, id, name, updated_at
      FROM (SELECT *, random() AS chance FROM version) AS version
      JOIN (VALUES ('champion', 0, 0.6), ('challenger', 1, 0.3)) AS pointing (name, back, share)
        ON number = greatest(1, %(versions)s - back) AND chance < share
)
SELECT count(*) FROM model"""

SUBJECTS = [
    *("abuse", "arrival", "breakdown", "cancellation", "churn", "click", "conversion", "default"),
    *("delay", "demand", "duplicate", "energy", "fraud", "intent", "latency", "leak", "price"),
    *("quality", "relapse", "return", "review", "risk", "spam", "toxicity", "traffic", "upsell"),
]
TASKS = ["classification", "forecasting", "ranking", "regression"]
FRAMEWORKS = ["lightgbm", "pytorch", "scikit-learn", "transformers", "xgboost"]
CARD = """\
---
library: %1$s
task: %2$s
license: proprietary
---

# %3$s

Scores each case by how likely **%4$s** is. Model number %5$s of its team.

## Intended use

- To sort cases before people look at them.
- Never to decide by itself.

## Data

| Part | Weeks | Cases |
|:--|--:|--:|
| learnt from | 1 to 40 | 400,000 |
| held out | 41 to 52 | 120,000 |

## Limits

Cases of new customers are rare in the data: the score is least sure there.
"""


@dataclass(frozen=True)
class Progress:
    """How far it has come: the teams done, and what was done to the last of them."""

    done: int
    teams: int
    models: int


def generate(
    teams: int, models: int, versions: int, *, prefix: str = PREFIX, member: str = MEMBER
) -> Iterator[Progress]:
    """Make ``teams`` teams with ``models`` models each, some teams at a time.

    Models that are there stay as they are: a second run adds what is missing. Raises
    ValidationError, before it makes anything, if one of the slugs belongs to a real team.
    """
    width = max(4, len(str(teams)))
    slugs = [f"{prefix}-{number:0{width}}" for number in range(1, teams + 1)]
    known = Tenant.objects.in_bulk(slugs, field_name="slug")
    for tenant in known.values():
        if tenant.contact != CONTACT:
            raise ValidationError(
                f"The team {tenant.slug} was not made by generate_models: nothing is generated."
            )
    person = _member(member)
    chosen = {slugs[place * teams // MEMBERSHIPS] for place in range(MEMBERSHIPS)}

    def make(number: int) -> int:
        slug = slugs[number]
        try:
            with transaction.atomic():
                tenant = known.get(slug) or directory.create_tenant(
                    slug, f"Bench {number + 1:,}", contact=CONTACT, description="Not a real team."
                )
                if slug in chosen and not Membership.objects.filter(tenant=tenant, user=person):
                    directory.add_member(tenant, person, Role.ADMIN)
                return _fill(tenant, number / teams, models, versions, person)
        finally:
            connection.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done, made in enumerate(pool.map(make, range(teams)), start=1):
            yield Progress(done, teams, made)
    tidy()


def _member(username: str) -> User:
    person, _ = User.objects.get_or_create(
        username=username, defaults={"first_name": "Ben", "last_name": "Chmark"}
    )
    if not person.is_active:
        directory.set_active(person, active=True)
    elif not person.password:
        person.set_unusable_password()
        person.save(update_fields=["password"])
    return person


def _fill(tenant: Tenant, seed: float, models: int, versions: int, owner: User) -> int:
    """Give the tenant the models that it lacks; return how many."""
    with tenant_scope(tenant), connection.cursor() as cursor:
        if RegisteredModel.objects.count() >= models:
            return 0
        cursor.execute(SEED, [seed])
        cursor.execute(
            FILL,
            {
                "tenant": tenant.pk,
                "slug": tenant.slug,
                "owner": owner.pk,
                "models": models,
                "versions": versions,
                "card": CARD,
                "subjects": SUBJECTS,
                "subject_count": len(SUBJECTS),
                "tasks": TASKS,
                "task_count": len(TASKS),
                "frameworks": FRAMEWORKS,
                "framework_count": len(FRAMEWORKS),
            },
        )
        (made,) = cursor.fetchone()
        return int(made)


def tidy() -> None:
    """Let PostgreSQL count the rows anew; only the tables' owner may ask for it."""
    with connections["owner"].cursor() as owner:
        for model in TABLES:
            owner.execute(f"VACUUM (ANALYZE) {model._meta.db_table}")


def made_up(prefix: str = PREFIX) -> list[Tenant]:
    """Return the teams that were made up."""
    return list(Tenant.objects.filter(slug__startswith=f"{prefix}-", contact=CONTACT))


def delete(*, prefix: str = PREFIX, member: str = MEMBER) -> Iterator[Progress]:
    """Take the made-up teams away, with everything in them, a team at a time.

    As the owner role, since history can be deleted by nobody else; the row security that is forced
    on the owner as well keeps each step inside its team. The member is deactivated: an account
    is never deleted.
    """
    tenants = made_up(prefix)
    for number, tenant in enumerate(tenants, start=1):
        yield Progress(number, len(tenants), _delete(tenant))
    for person in User.objects.filter(username=member):
        directory.deactivate_user(person)
    tidy()


def _delete(tenant: Tenant) -> int:
    """Delete one team; return how many models it had."""
    deleted = 0
    with transaction.atomic(using="owner"), connections["owner"].cursor() as owner:
        owner.execute(SET, [str(tenant.pk), "", ""])
        for model in TABLES:
            table = model._meta.db_table
            owner.execute(f"DELETE FROM {table} WHERE tenant_id = %s", [tenant.pk])  # noqa: S608  # a table's name
            if model is RegisteredModel:
                deleted = owner.rowcount
        owner.execute("DELETE FROM tenants_apitoken WHERE tenant_id = %s", [tenant.pk])
        owner.execute("DELETE FROM tenants_membership WHERE tenant_id = %s", [tenant.pk])
        owner.execute("DELETE FROM tenants_tenant WHERE id = %s", [tenant.pk])
        owner.execute("DELETE FROM tenants_user_groups WHERE group_id = %s", [tenant.group_id])
        owner.execute("DELETE FROM auth_group WHERE id = %s", [tenant.group_id])
    return deleted
