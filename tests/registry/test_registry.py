"""The registry's verbs: what they write, who may call them, what they refuse, and races."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models_registry import registry, validators
from models_registry.errors import Conflict, NameTaken
from models_registry.files import sources
from models_registry.models import (
    Alias,
    Bookmark,
    ModelGroupGrant,
    ModelUserGrant,
    ModelVersion,
    RegisteredModel,
)
from models_registry.registry import AliasMoved
from tenants.access import TenantSuspended, share, unshare
from tenants.audit import acting_from
from tenants.identity import directory
from tenants.isolation.credentials import NoTenant
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import AuditEvent, Role, User, tenant_owned_models
from tests.support.people import HOSTILE_NAMES, World, committed, make_world
from tests.support.sql import rows
from tests.support.threads import at_once

ADDRESS = "192.0.2.7"
MEMBERS = {
    Role.VIEWER: "bob",
    Role.CONTRIBUTOR: "carol",
    Role.MAINTAINER: "mia",
    Role.ADMIN: "alice",
}


class Enough(Exception):
    """Rolls back what an attempt wrote."""


@dataclass(frozen=True)
class Things:
    """What verbs are tried on: `fraud` has versions 1 (@champion) and 2; the other is archived."""

    model: RegisteredModel
    archived: RegisteredModel
    first: ModelVersion
    second: ModelVersion
    world: World


@dataclass(frozen=True)
class Verb:
    """A verb, the lowest role that may call it, and the event that it writes."""

    call: Callable[[Things], Any]
    role: Role
    action: str
    changes: dict[str, Any]
    label: str = "fraud"


VERBS = {
    "register_model": Verb(
        lambda t: registry.register_model("new", description="d", card="c", tags={"k": "v"}),
        Role.CONTRIBUTOR,
        "model.registered",
        {},
        "new",
    ),
    "update_model": Verb(
        lambda t: registry.update_model(t.model, description="new"),
        Role.CONTRIBUTOR,
        "model.updated",
        {"from": {"description": "ALPHA description"}, "to": {"description": "new"}},
    ),
    "update_model's owner": Verb(
        lambda t: registry.update_model(t.model, owner=t.world.carol),
        Role.CONTRIBUTOR,
        "model.updated",
        {"from": {"owner": "alice"}, "to": {"owner": "carol"}},
    ),
    "rename_model": Verb(
        lambda t: registry.rename_model(t.model, "renamed"),
        Role.CONTRIBUTOR,
        "model.renamed",
        {"from": "fraud", "to": "renamed"},
        "renamed",
    ),
    "set_tag": Verb(
        lambda t: registry.set_tag(t.model, "stage", "test"),
        Role.CONTRIBUTOR,
        "model.updated",
        {"from": {"tags": {}}, "to": {"tags": {"stage": "test"}}},
    ),
    "delete_tag": Verb(
        lambda t: registry.delete_tag(t.model, "ALPHA"),
        Role.CONTRIBUTOR,
        "model.updated",
        {"from": {"tags": {"ALPHA": "ALPHA"}}, "to": {"tags": {}}},
    ),
    "set_tag of a version": Verb(
        lambda t: registry.set_tag(t.second, "framework", "torch"),
        Role.CONTRIBUTOR,
        "version.updated",
        {
            "from": {"tags": {"framework": "scikit-learn"}},
            "to": {"tags": {"framework": "torch"}},
        },
        "fraud version 2",
    ),
    "add_version": Verb(
        lambda t: registry.add_version(t.model, source="s3://x", metrics={"auc": 0.9}),
        Role.CONTRIBUTOR,
        "version.added",
        {"to": 3},
        "fraud version 3",
    ),
    "update_version": Verb(
        lambda t: registry.update_version(t.second, status="FAILED", status_message="No."),
        Role.CONTRIBUTOR,
        "version.updated",
        {
            "from": {"status": "READY", "status_message": ""},
            "to": {"status": "FAILED", "status_message": "No."},
        },
        "fraud version 2",
    ),
    "delete_version": Verb(
        lambda t: registry.delete_version(t.second),
        Role.MAINTAINER,
        "version.deleted",
        {"from": 2},
        "fraud version 2",
    ),
    "set_alias": Verb(
        lambda t: registry.set_alias(t.model, "challenger", 2),
        Role.CONTRIBUTOR,
        "alias.set",
        {"alias": "challenger", "from": None, "to": 2},
    ),
    "move an alias": Verb(
        lambda t: registry.set_alias(t.model, "champion", 2, expected=1),
        Role.CONTRIBUTOR,
        "alias.set",
        {"alias": "champion", "from": 1, "to": 2},
    ),
    "delete_alias": Verb(
        lambda t: registry.delete_alias(t.model, "champion"),
        Role.CONTRIBUTOR,
        "alias.deleted",
        {"alias": "champion", "from": 1, "to": None},
    ),
    "archive_model": Verb(
        lambda t: registry.archive_model(t.model), Role.MAINTAINER, "model.archived", {}
    ),
    "restore_model": Verb(
        lambda t: registry.restore_model(t.archived),
        Role.MAINTAINER,
        "model.restored",
        {},
        "ALPHA own",
    ),
    "delete_model": Verb(
        lambda t: registry.delete_model(t.archived),
        Role.MAINTAINER,
        "model.deleted",
        {"versions": 2},
        "ALPHA own",
    ),
    "share with a team": Verb(
        lambda t: share(t.model, with_tenant=t.world.gamma),
        Role.MAINTAINER,
        "grant.given",
        {"with": "team_gamma", "permission": "view_registeredmodel"},
    ),
    "share with a person": Verb(
        lambda t: share(t.model, with_user=t.world.gina),
        Role.MAINTAINER,
        "grant.given",
        {"with": "gina", "permission": "view_registeredmodel"},
    ),
    "unshare": Verb(
        lambda t: unshare(t.archived, with_user=t.world.charlie),
        Role.MAINTAINER,
        "grant.revoked",
        {"with": "charlie"},
        "ALPHA own",
    ),
}


@pytest.fixture
def things(world: World) -> Things:
    """Models in each state that a verb needs."""
    return make_things(world)


def make_things(world: World) -> Things:
    with tenant_scope(world.alpha, world.alice):
        model = RegisteredModel.objects.get(name="fraud")
        archived = RegisteredModel.objects.get(name="ALPHA own")
        share(archived, with_user=world.charlie)
        return Things(
            model=model,
            archived=registry.archive_model(archived),
            first=ModelVersion.objects.get(model=model, number=1),
            second=ModelVersion.objects.get(model=model, number=2),
            world=world,
        )


def everything(world: World) -> list[Any]:
    """Return all rows of both teams, as text."""
    found: list[Any] = []
    for tenant in (world.alpha, world.gamma):
        with tenant_scope(tenant):
            for model in tenant_owned_models():
                table = model._meta.db_table
                found += rows(f"SELECT '{table}', row::text FROM {table} row ORDER BY id")
    return found


def events(world: World) -> list[AuditEvent]:
    with tenant_scope(world.alpha):
        return list(AuditEvent.objects.all())


# --- who may, and what is written down -----------------------------------------------------


def test_each_role_may_do_what_it_includes_and_no_more(things: Things) -> None:
    """A refusal writes nothing; nor does what is undone, whose event goes with it."""
    order, world = list(Role), things.world
    before = everything(world)
    for name, verb in VERBS.items():
        for role, person in MEMBERS.items():
            refusal = None
            try:
                with transaction.atomic(), member_scope(world.person(person), "team_alpha"):
                    verb.call(things)
                    raise Enough
            except (Enough, PermissionDenied) as error:
                refusal = error
            allowed = order.index(role) >= order.index(verb.role)
            assert isinstance(refusal, Enough if allowed else PermissionDenied), (name, role)
        assert everything(world) == before, name


def test_each_verb_writes_its_event(things: Things) -> None:
    world = things.world
    before = {event.pk for event in events(world)}
    for name, verb in VERBS.items():
        with transaction.atomic():
            with acting_from(ADDRESS), member_scope(world.alice, "team_alpha"):
                verb.call(things)
            [event] = [event for event in events(world) if event.pk not in before]
            transaction.set_rollback(True)
        assert (event.action, event.changes) == (verb.action, verb.changes), name
        assert (event.actor, event.actor_label, event.ip) == (world.alice, "alice", ADDRESS), name
        kind = "modelversion" if "version" in verb.label else "registeredmodel"
        assert (event.object_label, event.object_type) == (verb.label, kind), name
        assert event.tenant_id == world.alpha.pk
        # An event of a version is its model's, so that a model's history is one query.
        if name != "register_model":
            about = things.archived if verb.label == "ALPHA own" else things.model
            assert event.object_id == about.pk, name


def test_a_suspended_team_changes_nothing(things: Things) -> None:
    world = things.world
    directory.suspend_tenant(world.alpha)
    before = everything(world)
    for name, verb in VERBS.items():
        # Nor does a command change it.
        for scope in (member_scope(world.alice, "team_alpha"), tenant_scope(world.alpha)):
            with pytest.raises(TenantSuspended), scope:
                verb.call(things)
        assert everything(world) == before, name


def test_without_a_scope_no_verb_runs(things: Things) -> None:
    """L27: a task or command that opened no scope fails and writes nothing."""
    before = everything(things.world)
    for verb in VERBS.values():
        with pytest.raises(NoTenant), transaction.atomic():
            verb.call(things)
    assert everything(things.world) == before


def test_no_verb_reaches_a_model_of_another_team(things: Things) -> None:
    """L2, L3: neither one that is hidden nor one that is shared for reading."""
    world = things.world
    with tenant_scope(world.alpha, world.alice):
        share(things.model, with_tenant=world.gamma)
        share(things.archived, with_tenant=world.gamma)
    before = everything(world)
    for name, verb in VERBS.items():
        if name != "register_model":
            with suppress(Exception), transaction.atomic(), member_scope(world.hugo, "team_gamma"):
                verb.call(things)
            assert everything(world) == before, name


# --- what the verbs do ---------------------------------------------------------------------


def test_register_model_keeps_what_it_is_given(things: Things) -> None:
    with member_scope(things.world.carol, "team_alpha"):
        pk = registry.register_model("new", description="d", card="# c", tags={"a": "b"}).pk
        model = RegisteredModel.objects.get(pk=pk)
    assert (model.name, model.description, model.card) == ("new", "d", "# c")
    assert (model.tags, model.owner, model.tenant) == (
        {"a": "b"},
        things.world.carol,
        things.world.alpha,
    )
    assert not model.is_archived


def test_any_text_without_slash_and_colon_is_a_name(world: World) -> None:
    with tenant_scope(world.alpha):
        for name in HOSTILE_NAMES:
            registry.register_model(name)
            assert RegisteredModel.objects.get(name=name).name == name


def test_add_version_keeps_what_it_is_given(things: Things) -> None:
    values = {
        "source": "s3://x",
        "run_id": "a" * 32,
        "run_link": "https://x.example",
        "description": "d",
        "status": "PENDING",
        "status_message": "wait",
        "tags": {"a": "b"},
        "params": {"C": "1.0"},
        "metrics": {"auc": 0.5, "n": 3},
    }
    with member_scope(things.world.carol, "team_alpha"):
        added = registry.add_version(things.model, **values)  # type: ignore[arg-type]
        version = ModelVersion.objects.get(pk=added.pk)
    assert {name: getattr(version, name) for name in values} == values
    assert (version.number, version.creator, version.stage) == (3, things.world.carol, "None")


def test_verbs_do_what_they_say(things: Things) -> None:
    with member_scope(things.world.alice, "team_alpha"):
        registry.set_alias(things.model, "champion", 2)
        assert Alias.objects.get(model=things.model).version == things.second
        registry.delete_alias(things.model, "champion")
        registry.delete_version(things.second)
        assert [version.number for version in things.model.versions.all()] == [1]
        registry.restore_model(things.archived)
        assert not RegisteredModel.objects.get(pk=things.archived.pk).is_archived
        registry.archive_model(things.archived)
        registry.delete_model(things.archived)
        assert not RegisteredModel.objects.filter(pk=things.archived.pk).exists()
        assert not ModelVersion.objects.filter(model_id=things.archived.pk).exists()


def test_what_changes_nothing_writes_nothing(things: Things) -> None:
    with member_scope(things.world.alice, "team_alpha"):
        before = AuditEvent.objects.count()
        registry.update_model(things.model, description="ALPHA description")
        registry.update_version(things.first, status="READY")
        registry.set_alias(things.model, "champion", 1)
        registry.delete_alias(things.model, "nothing")
        registry.delete_tag(things.model, "nothing")
        registry.archive_model(things.archived)
        registry.restore_model(things.model)
        assert AuditEvent.objects.count() == before
        assert RegisteredModel.objects.get(pk=things.model.pk).updated_at == (
            things.model.updated_at
        )


def test_stars_and_views_are_the_persons_own(things: Things) -> None:
    world = things.world
    with member_scope(world.bob, "team_alpha"):
        registry.star(things.model, True)
        registry.record_view(things.model)
        registry.record_view(things.model)
    with member_scope(world.carol, "team_alpha"):
        registry.record_view(things.model)
        registry.star(things.model, False)
    with tenant_scope(world.alpha):
        registry.record_view(things.model)  # nobody's
        starred = set(Bookmark.objects.values_list("user__username", "starred"))
        assert starred == {("bob", True), ("carol", False)}
        assert not Bookmark.objects.filter(viewed_at=None).exists()


def test_a_versions_number_is_never_given_again(things: Things) -> None:
    with tenant_scope(things.world.alpha):
        registry.delete_version(things.second)
        assert registry.add_version(things.model).number == 3
        registry.delete_version(ModelVersion.objects.get(model=things.model, number=3))
        assert registry.add_version(things.model).number == 4


def test_version_numbers_are_counted_per_model(things: Things) -> None:
    """L12: a number tells nothing of other models or teams."""
    with tenant_scope(things.world.alpha):
        assert registry.add_version(registry.register_model("other")).number == 1


def test_a_name_given_again_revives_nothing(things: Things) -> None:
    """L34: aliases, grants, stars and history of the deleted model stay gone."""
    world, model = things.world, things.model
    with tenant_scope(world.alpha, world.alice):
        share(model, with_tenant=world.gamma)
        share(model, with_user=world.charlie)
        registry.star(model, True)
        registry.archive_model(model)
        registry.delete_model(model)
        again = registry.register_model("fraud")
        registry.add_version(again)
        for rows_of in (Alias, ModelUserGrant, ModelGroupGrant, Bookmark):
            assert not rows_of.objects.exclude(
                **{"content_object" if "Grant" in rows_of.__name__ else "model": things.archived.pk}
            ).exists()
        history = AuditEvent.objects.filter(object_id=again.pk)
        assert {event.action for event in history} == {"model.registered", "version.added"}
    with tenant_scope(world.gamma, world.charlie):
        assert "fraud" not in {m.name for m in RegisteredModel.shared.filter(tenant=world.alpha)}


# --- what is refused -----------------------------------------------------------------------

BAD_NAMES = ("", "   ", "a/b", "a:b", ".", "..", "x" * 257, "nul\x00", "\ud800")
BAD_ALIASES = ("", "latest", "Latest", "v1", "V12", "a b", "é", "a/b", "a@b", "x" * 256, "a\n")
BAD_KEYS = ("", " ", "a?b", "..", "../x", "/x", "x/", "a//b", "x" * 251, "a\x00")
BAD_METRICS: tuple[Any, ...] = (
    float("nan"),
    float("inf"),
    -float("inf"),
    True,
    "0.9",
    None,
    [],
    10**400,
)
LONG = 6001

BAD: list[tuple[str, Callable[[Things], Any]]] = [
    *(("name", lambda t, v=v: registry.register_model(v)) for v in BAD_NAMES),
    *(("name", lambda t, v=v: registry.rename_model(t.model, v)) for v in BAD_NAMES),
    ("name", lambda t: registry.register_model("fraud")),
    ("name", lambda t: registry.rename_model(t.model, "ALPHA own")),
    ("description", lambda t: registry.register_model("x", description="x" * 5001)),
    ("description", lambda t: registry.update_model(t.model, description="\x00")),
    ("card", lambda t: registry.register_model("x", card="x" * (validators.MAX_CARD_CHARS + 1))),
    ("card", lambda t: registry.update_model(t.model, card="\ud800")),
    *(("tags", lambda t, k=k: registry.register_model("x", tags={k: ""})) for k in BAD_KEYS),
    *(("tags", lambda t, k=k: registry.set_tag(t.model, k, "")) for k in BAD_KEYS),
    *(("params", lambda t, k=k: registry.add_version(t.model, params={k: ""})) for k in BAD_KEYS),
    *(("metrics", lambda t, k=k: registry.add_version(t.model, metrics={k: 1})) for k in BAD_KEYS),
    ("tags", lambda t: registry.set_tag(t.second, "k", "x" * (validators.MAX_TAG_VALUE_CHARS + 1))),
    ("tags", lambda t: registry.update_model(t.model, tags={"k": 1})),  # type: ignore[dict-item]
    ("tags", lambda t: registry.update_model(t.model, tags=["k"])),  # type: ignore[arg-type]
    (
        "tags",
        lambda t: registry.update_version(t.second, tags={str(n): "" for n in range(1001)}),
    ),
    ("params", lambda t: registry.add_version(t.model, params={"k": "x" * LONG})),
    *(
        ("metrics", lambda t, v=v: registry.add_version(t.model, metrics={"m": v}))
        for v in BAD_METRICS
    ),
    ("source", lambda t: registry.add_version(t.model, source="x" * 501)),
    ("run_id", lambda t: registry.add_version(t.model, run_id="x" * 33)),
    ("run_link", lambda t: registry.add_version(t.model, run_link="x" * 501)),
    ("status", lambda t: registry.add_version(t.model, status="ready")),
    ("status", lambda t: registry.update_version(t.second, status="")),
    ("status_message", lambda t: registry.update_version(t.second, status_message="x" * 501)),
    ("description", lambda t: registry.update_version(t.second, description="\x00")),
    *(("alias", lambda t, v=v: registry.set_alias(t.model, v, 1)) for v in BAD_ALIASES),
    ("version", lambda t: registry.set_alias(t.model, "champion", 9)),
    ("version", lambda t: registry.set_alias(t.model, "champion", 0)),
    ("__all__", lambda t: registry.delete_model(t.model)),
    ("__all__", lambda t: registry.delete_version(t.first)),
]


def test_bad_values_are_refused_by_field_and_nothing_is_written(things: Things) -> None:
    before = everything(things.world)
    for number, (field, call) in enumerate(BAD):
        with pytest.raises(ValidationError) as caught, transaction.atomic():
            with member_scope(things.world.alice, "team_alpha"):
                call(things)
            pytest.fail(f"BAD[{number}], {field}: not refused")
        if field == "__all__":
            assert caught.value.messages
        else:
            assert list(caught.value.message_dict) == [field], number
    assert everything(things.world) == before


def test_a_taken_name_is_told_from_a_bad_one(things: Things) -> None:
    with tenant_scope(things.world.alpha):
        with pytest.raises(NameTaken, match="already exists"):
            registry.register_model("fraud")
        # The transaction goes on: the refused insert was a savepoint of its own.
        registry.register_model("frauds")


def test_anothers_name_is_a_free_name(things: Things) -> None:
    """L11: what another team calls its models cannot be found out by trying."""
    with tenant_scope(things.world.gamma):
        registry.register_model("ALPHA own")
    with tenant_scope(things.world.alpha):
        registry.rename_model(things.model, "CANARY own")


# --- changed meanwhile ---------------------------------------------------------------------


def test_an_edit_of_what_changed_meanwhile_is_a_conflict(things: Things) -> None:
    with tenant_scope(things.world.alpha):
        seen, seen_version = things.model.updated_at, things.second.updated_at
        seen = RegisteredModel.objects.get(pk=things.model.pk).updated_at
        registry.update_model(things.model, description="theirs", expected=seen)
        with pytest.raises(Conflict):
            registry.update_model(things.model, description="mine", expected=seen)
        registry.update_version(things.second, description="theirs", expected=seen_version)
        with pytest.raises(Conflict):
            registry.update_version(things.second, description="mine", expected=seen_version)
        assert RegisteredModel.objects.get(pk=things.model.pk).description == "theirs"
        assert ModelVersion.objects.get(pk=things.second.pk).description == "theirs"


def test_a_moved_alias_tells_who_moved_it_and_when(things: Things) -> None:
    world = things.world
    start = timezone.now() - timedelta(seconds=1)
    with member_scope(world.carol, "team_alpha"):
        registry.set_alias(things.model, "champion", 2)
    with member_scope(world.mia, "team_alpha"):
        for verb in (
            lambda: registry.set_alias(things.model, "champion", 1, expected=1),
            lambda: registry.set_alias(things.model, "champion", 1, expected=None),
            lambda: registry.delete_alias(things.model, "champion", expected=1),
        ):
            with pytest.raises(AliasMoved) as caught:
                verb()
            assert (caught.value.current, caught.value.moved_by) == (2, "carol")
            assert caught.value.moved_at is not None
            assert start < caught.value.moved_at < timezone.now()
        registry.delete_alias(things.model, "champion", expected=2)
        with pytest.raises(AliasMoved) as caught:
            registry.set_alias(things.model, "champion", 1, expected=2)
        assert (caught.value.current, caught.value.moved_by) == (None, "mia")
        registry.set_alias(things.model, "champion", 1, expected=None)


# --- at the same time ----------------------------------------------------------------------


def race(world: World, *calls: Callable[[], Any]) -> list[Any]:
    """Make the calls at once, each in a scope of its own; return results or exceptions."""
    return at_once(*calls, within=lambda: tenant_scope(world.alpha, world.alice))


@committed
def test_verbs_at_the_same_time() -> None:
    """Twenty add versions; of two that register one name or move one alias, one wins."""
    world = make_world()
    things = make_things(world)
    model = things.model

    added = race(world, *[lambda: registry.add_version(model)] * 20)
    assert sorted(version.number for version in added) == list(range(3, 23))

    registered = race(world, *[lambda: registry.register_model("race")] * 2)
    assert sorted(type(result).__name__ for result in registered) == [
        "NameTaken",
        "RegisteredModel",
    ]

    moved = race(
        world,
        lambda: registry.set_alias(model, "champion", 2, expected=1),
        lambda: registry.set_alias(model, "champion", 3, expected=1),
        lambda: registry.set_alias(model, "champion", 4, expected=1),
    )
    assert sorted(type(result).__name__ for result in moved) == [
        "Alias",
        "AliasMoved",
        "AliasMoved",
    ]

    new = race(world, *[lambda: registry.set_alias(model, "new", 2, expected=None)] * 2)
    assert sorted(type(result).__name__ for result in new) == ["Alias", "AliasMoved"]

    tagged = race(
        world,
        *[lambda n=n: registry.set_tag(model, f"tag {n}", str(n)) for n in range(6)],
        lambda: registry.delete_tag(model, "ALPHA"),
        *[lambda n=n: registry.set_tag(things.second, f"tag {n}", str(n)) for n in range(6)],
    )
    assert tagged == [None] * 13

    edited = race(
        world,
        *[lambda n=n: registry.update_version(things.first, description=str(n)) for n in range(4)],
        *[lambda n=n: registry.update_model(model, card=str(n)) for n in range(4)],
        *[lambda n=n: registry.set_alias(model, f"new-{n}", 1) for n in range(4)],
    )
    assert not [result for result in edited if isinstance(result, Exception)]

    gone = race(
        world,
        lambda: registry.delete_model(things.archived),
        lambda: registry.add_version(things.archived),
        lambda: registry.set_alias(things.archived, "champion", 2),
    )
    assert gone[0] is None or isinstance(gone[0], RegisteredModel.DoesNotExist)
    with tenant_scope(world.alpha):
        model.refresh_from_db()
        assert model.tags == {f"tag {n}": str(n) for n in range(6)}
        things.second.refresh_from_db()
        assert {f"tag {n}" for n in range(6)} < set(things.second.tags)
        assert RegisteredModel.objects.filter(name="race").count() == 1
        assert not RegisteredModel.objects.filter(pk=things.archived.pk).exists()
        assert AuditEvent.objects.filter(action="version.added", object_id=model.pk).count() == 22


def seen(model: RegisteredModel) -> Any:
    return RegisteredModel.objects.values_list("updated_at", flat=True).get(pk=model.pk)


# --- any text, any number ------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=()), max_size=300)
key_like = st.text("ab/_.- :é\n\x00", max_size=6) | anything
numbers = st.floats() | st.integers() | st.just(10**400) | st.booleans()

property_test = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def accepted(validate: Callable[[Any], None], value: Any) -> bool:
    try:
        validate(value)
    except ValidationError:
        return False
    return True


def stored(world: World, person: User, write: Callable[[], Any]) -> Any:
    """Return the row as it is read back, or None if the verb refused; and undo it."""
    row = None
    with transaction.atomic(), tenant_scope(world.alpha, person):
        try:
            row = write()
        except ValidationError:
            pass
        else:
            row = type(row).objects.get(pk=row.pk)
        transaction.set_rollback(True)
    return row


@property_test
@given(name=anything | key_like)
@example(name="x" * 256)
@example(name="%2e%2e")
@example(name="\udcff")
def test_a_name_is_stored_as_given_or_refused(world: World, name: str) -> None:
    row = stored(world, world.alice, lambda: registry.register_model(name))
    assert (row is not None) == (accepted(validators.validate_model_name, name) and name != "fraud")
    assert row is None or row.name == name


@property_test
@given(tags=st.dictionaries(key_like, anything, max_size=3))
@example(tags={"a": "\x00"})
@example(tags={"a": "x" * (validators.MAX_TAG_VALUE_CHARS + 1)})
def test_tags_are_stored_as_given_or_refused(world: World, tags: dict[str, str]) -> None:
    row = stored(world, world.alice, lambda: registry.register_model("tagged", tags=tags))
    assert (row is not None) == accepted(validators.validate_tags, tags)
    assert row is None or row.tags == tags


@property_test
@given(metrics=st.dictionaries(st.text("ab ./", min_size=1), numbers, max_size=3))
@example(metrics={"huge": 1e308, "tiny": 5e-324, "zero": -0.0})
def test_metrics_are_stored_as_given_or_refused(world: World, metrics: dict[str, float]) -> None:
    model = world.model(world.alpha, "fraud")
    row = stored(world, world.alice, lambda: registry.add_version(model, metrics=metrics))
    assert (row is not None) == accepted(validators.validate_metrics, metrics)
    if row is not None:
        read_back = {name: float(value) for name, value in row.metrics.items()}
        assert read_back == {name: float(value) for name, value in metrics.items()}


@property_test
@given(alias=st.text("aV1_-.é \n", max_size=4) | anything)
@example(alias="v1")
@example(alias="x" * 255)
def test_an_alias_is_stored_as_given_or_refused(world: World, alias: str) -> None:
    model = world.model(world.alpha, "fraud")
    row = stored(world, world.alice, lambda: registry.set_alias(model, alias, 1))
    assert (row is not None) == accepted(validators.validate_alias_name, alias)
    assert row is None or row.name == alias


def test_the_log_keeps_what_differs_and_not_the_row(things: Things) -> None:
    """A small change of large tags is a small event, and long values are cut."""
    large = {str(number): "x" * 1000 for number in range(500)}
    with tenant_scope(things.world.alpha, things.world.alice):
        registry.update_model(things.model, tags=large)
        registry.set_tag(things.model, "7", "y" * 1000)
        event = AuditEvent.objects.filter(object_id=things.model.pk).first()
        assert event is not None
        assert set(event.changes["from"]["tags"]) == set(event.changes["to"]["tags"]) == {"7"}
        assert len(str(event.changes)) < 1000
        first = AuditEvent.objects.filter(object_id=things.model.pk)[1]
        assert len(first.changes["to"]["tags"]) <= registry.MAX_LOGGED_ENTRIES


def test_all_tags_of_a_row_together_have_a_limit(things: Things) -> None:
    tags = {str(number): "x" * 100_000 for number in range(11)}
    with (
        member_scope(things.world.alice, "team_alpha"),
        pytest.raises(ValidationError, match="together at most 1,000,000"),
    ):
        registry.update_model(things.model, tags=tags)


def test_a_version_whose_files_went_meanwhile_is_not_made(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were there when the source was looked up, and not when they were to be copied."""
    there = sources.Source("mlflow-artifacts:/gone", "gone")
    monkeypatch.setattr(sources, "resolve", lambda *args, **kwargs: there)
    with member_scope(things.world.alice, "team_alpha"):
        with pytest.raises(Conflict, match="deleted meanwhile"):
            registry.add_version(things.model, source="mlflow-artifacts:/gone")
        assert things.model.versions.count() == 2


def test_each_text_of_a_version_is_limited_as_its_column_is() -> None:
    """What is too long is refused with a sentence, and not by PostgreSQL."""
    texts = {
        field.name: field.max_length
        for field in ModelVersion._meta.concrete_fields
        if field.max_length and field.editable and not field.choices
    }
    assert len(texts) > 5
    assert texts == {name: validators.MAX_VERSION_CHARS.get(name) for name in texts}
