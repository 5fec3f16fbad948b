"""``manage.py sync_kubernetes`` and ``list_groups``, as an operator types them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from psycopg.conninfo import make_conninfo
from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.identity import directory, robots
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.sync import client
from tenants.kubernetes.sync.client import OfficialClient
from tenants.kubernetes.sync.sync import Mode, Order, sync_all
from tenants.management.commands.sync_kubernetes import exit_code, pause_after
from tenants.models import NamespaceState, Role, Tenant
from tests.support.kubernetes_stage import Stage, kubeconfig, set_clusters
from tests.support.people import CANARY, World, committed, make_user, make_world

State = NamespaceState.State


def run(*words: str) -> tuple[int, list[str]]:
    """Run the sync and return its exit code and what it prints."""
    out = StringIO()
    code = 0
    try:
        call_command("sync_kubernetes", *words, stdout=out, stderr=StringIO())
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, out.getvalue().splitlines()


def refusal(*words: str) -> str:
    """Return why the sync refuses."""
    with pytest.raises(CommandError) as raised:
        run(*words)
    return str(raised.value)


@pytest.fixture
def here(stage: Stage, settings: Settings) -> Stage:
    """A stage whose cluster is the installation's only one."""
    set_clusters(settings, stage.cluster)
    return stage


@pytest.fixture
def closed(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The installation's only cluster, which nothing answers for."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
    cluster = Cluster("closed", kubeconfig=kubeconfig(tmp_path, url))
    set_clusters(settings, cluster)
    monkeypatch.setattr(client, "RETRY_SECONDS", ())
    return cluster


def states() -> dict[str, str]:
    """Return each team's state in the database."""
    found = {}
    for tenant in Tenant.objects.all():
        with tenant_scope(tenant):
            for row in NamespaceState.objects.all():
                found[tenant.slug] = str(row.state)
    return found


# --- what is printed -----------------------------------------------------------------------------


def test_a_plan_lists_what_would_be_done(here: Stage) -> None:
    slug = here.tenant.slug
    code, lines = run("--tenant", slug)
    assert code == 2
    assert lines[0].split() == ["TEAM", "CLUSTER", "STATE", "OBJECTS"]
    assert lines[1].split() == [slug, "test", "drift", "18", "missing"]
    assert len(lines) == 20
    assert lines[2] == f"  + missing Namespace {here.tenant.namespace}"
    assert "  + missing NetworkPolicy bh-default-deny" in lines
    assert states() == {}


def test_what_was_done_is_listed_once(here: Stage) -> None:
    code, lines = run("--mode", "enforce")
    assert (code, len(lines)) == (0, 20)
    assert lines[1].split()[2:] == ["in", "sync", "18", "created"]
    code, lines = run("--mode", "enforce")
    assert (code, len(lines)) == (0, 2)
    assert lines[1].split()[2:] == ["in", "sync", "18", "in", "sync"]
    assert states() == {here.tenant.slug: "in_sync"}


def test_drift_is_listed_with_its_fields_and_culprits(here: Stage) -> None:
    run("--mode", "enforce")
    hard = here.get("ResourceQuota", "bh-compute")["spec"]["hard"]
    here.edit("ResourceQuota", "bh-compute", spec={"hard": {**hard, "pods": "500"}})
    code, lines = run("--mode", "observe")
    assert code == 2
    assert lines[1].split()[2:] == ["drift", "17", "in", "sync,", "1", "drift"]
    assert lines[2:] == ["  ~ drift ResourceQuota bh-compute: .spec.hard.pods (kubectl-edit)"]
    code, lines = run("--mode", "enforce", "--json")
    [found] = json.loads("\n".join(lines))
    assert code == 0
    assert (found["tenant"], found["cluster"], found["state"]) == (
        here.tenant.slug,
        "test",
        "in_sync",
    )
    [corrected] = [obj for obj in found["objects"] if obj["state"] == "corrected"]
    assert corrected["name"] == "bh-compute"
    assert found["version"].startswith("v1.")


def test_a_team_that_cannot_be_synced_does_not_stop_the_next(here: Stage) -> None:
    # By their names, the first team's namespace is somebody else's, and the last's is not.
    first, _ = here.another_team("a_first"), here.another_team("z_last")
    metadata = {"name": first.namespace}
    here.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    code, lines = run("--mode", "enforce")
    assert code == 2
    assert states() == {
        "a_first": "conflict",
        here.tenant.slug: "in_sync",
        "z_last": "in_sync",
    }
    assert lines[1].split() == ["a_first", "test", "not", "ours", "1", "conflict"]
    assert lines[2].startswith(f"  ! conflict Namespace {first.namespace}: There is a namespace")
    Tenant.objects.filter(pk=first.pk).update(size="custom", custom_size={"pods": "many"})
    code, lines = run("--mode", "observe", "--tenant", "a_first", "z_last")
    assert code == 1
    assert "The team's size is none" in lines[2]
    assert lines[3].split()[2:4] == ["in", "sync"]


def test_an_unknown_team_or_cluster_is_refused(closed: Cluster, db: None) -> None:
    assert refusal("--tenant", "team_omega") == "There is no team team_omega."
    assert refusal("--cluster", "moon") == "There is no cluster moon; there is closed."
    assert refusal("--interval", "0") == "--interval takes a number of seconds, 1 or more."
    assert "invalid choice" in refusal("--mode", "adopt")


def test_without_teams_all_is_in_sync(closed: Cluster, db: None) -> None:
    assert run("--mode", "observe")[0] == 0


# --- what cannot be done -------------------------------------------------------------------------


def test_a_cluster_that_is_down_is_an_error_of_each_team(closed: Cluster, world: World) -> None:
    code, lines = run("--mode", "observe")
    assert code == 1
    assert states() == {"team_alpha": "error", "team_gamma": "error"}
    assert [line for line in lines if "the connection was refused" in line] == [lines[2], lines[4]]
    # Where the cluster is, is nobody's but the platform's.
    with tenant_scope(world.alpha):
        assert "127.0.0.1" not in str(vars(NamespaceState.objects.get()))


def test_a_plan_of_a_cluster_that_is_down_writes_nothing(closed: Cluster, world: World) -> None:
    assert run("--mode", "plan")[0] == 1
    assert states() == {}


def test_a_cluster_without_access_is_an_error_of_each_team(
    settings: Settings, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    set_clusters(settings, Cluster("nowhere", kubeconfig="/no/such/file"))
    code, lines = run("--mode", "observe")
    assert code == 1
    assert states() == {"team_alpha": "error", "team_gamma": "error"}
    assert lines[2].endswith("UTC: Bulkhead has no working access to this cluster.")
    assert "No configuration found" in caplog.text


def test_a_cluster_that_is_down_is_not_asked_for_every_team(tmp_path: Path, world: World) -> None:
    asked: list[str] = []

    class Breaking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    file = kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_port}")
    order = Order(Cluster("breaking", kubeconfig=file), Mode.OBSERVE)
    found = sync_all([world.alpha, world.gamma] * 5, order, lambda c: OfficialClient(c, ()))
    assert {state.state for state in found} == {State.ERROR}
    server.shutdown()
    server.server_close()
    assert asked == ["/version", "/version"]


def test_a_state_that_the_database_does_not_take_is_told(
    closed: Cluster, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    order = Order(replace(closed, name="x" * 64), Mode.OBSERVE)
    found = list(sync_all([world.alpha, world.gamma], order))
    assert [state.tenant.slug for state in found] == ["team_alpha", "team_gamma"]
    assert all("database did not answer" in state.error for state in found)
    assert "value too long" in caplog.text
    assert exit_code(found) == 1


def test_what_one_team_reads_holds_nothing_of_another(closed: Cluster, world: World) -> None:
    run("--mode", "observe")
    with tenant_scope(world.alpha):
        row = NamespaceState.objects.get()
    assert CANARY not in str(vars(row))
    assert "gamma" not in str(vars(row))


# --- watching ------------------------------------------------------------------------------------


class Ended(Exception):
    """The watch was to end here."""


def watch(
    monkeypatch: pytest.MonkeyPatch, *between: Callable[[], object], words: tuple[str, ...] = ()
) -> tuple[list[str], list[float]]:
    """Watch, do something between each two rounds, and return what was printed and the pauses."""
    out, pauses, left = StringIO(), list[float](), list(between)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            call_command("sync_kubernetes", "--watch", *words, stdout=out, stderr=out)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 0
    printed = out.getvalue().splitlines()
    assert printed.pop() == "Stopped."
    return printed, pauses


def test_a_watch_prints_what_changes(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlock() -> None:
        here.remove("NetworkPolicy", "bh-default-deny")

    nothing: Callable[[], None] = lambda: None  # noqa: E731
    printed, pauses = watch(
        monkeypatch,
        nothing,
        nothing,
        unlock,
        nothing,
        words=("--mode", "enforce", "--interval", "7"),
    )
    rows = [line.split()[2:] for line in printed if not line.startswith(" ")]
    assert rows == [
        ["in", "sync", "18", "created"],
        ["in", "sync", "18", "in", "sync"],
        ["in", "sync", "17", "in", "sync,", "1", "created"],
        ["in", "sync", "18", "in", "sync"],
    ]
    assert pauses == [7] * 5


def test_a_watch_can_print_lines_of_json(
    closed: Cluster, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, _ = watch(monkeypatch, lambda: None, words=("--mode", "observe", "--json"))
    assert [json.loads(line)["tenant"] for line in printed] == ["team_alpha", "team_gamma"]


@committed
def test_a_watch_survives_what_is_down_and_asks_less_often(
    closed: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world()

    there = connection.settings_dict["NAME"]

    def database_is(name: str) -> None:
        connection.close()
        connection.settings_dict["NAME"] = name

    printed, pauses = watch(
        monkeypatch,
        lambda: None,
        lambda: database_is("no such database"),
        lambda: database_is(there),
        words=("--mode=observe",),
    )
    assert pauses == [120, 240, 480, 600]
    assert len([line for line in printed if line.startswith("team_")]) == 2
    assert len([line for line in printed if "database does not answer" in line]) == 1


@pytest.mark.parametrize(
    ("failed", "interval", "pause"),
    [(0, 60, 60), (1, 60, 120), (3, 60, 480), (4, 60, 600), (99, 60, 600), (2, 900, 900)],
)
def test_the_pause_grows_to_a_bound_and_is_no_shorter_than_asked(
    failed: int, interval: int, pause: int
) -> None:
    assert pause_after(failed, interval) == pause


@committed
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_cleanly(sign: signal.Signals, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps([{"name": "nowhere", "kubeconfig": "/no/such/file"}]))
    make_world()
    params = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    address = make_conninfo("", **{name: params[name] for name in names if params.get(name)})
    more = {
        "DATABASE_URL": address,
        "BULKHEAD_SECRET_KEY": "only for this test",
        "BULKHEAD_CLUSTERS": str(clusters),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sync_kubernetes", "--watch", "--mode=observe"],
        cwd=django_settings.BASE_DIR,
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        # With the last line the round is over, and it sleeps.
        assert [process.stdout.readline().split()[0] for _ in range(4)] == [
            "team_alpha",
            "!",
            "team_gamma",
            "!",
        ]
        process.send_signal(sign)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "Stopped."


# --- the groups of people -----------------------------------------------------------------------


def groups(*words: str) -> str:
    """Return what list_groups prints."""
    out = StringIO()
    call_command("list_groups", *words, stdout=out)
    return out.getvalue()


def test_the_groups_are_the_members_of_this_moment(world: World) -> None:
    robots.create_robot(world.alpha, "builder", Role.MAINTAINER)
    gone = make_user("gone")
    directory.add_member(world.alpha, gone, Role.VIEWER)
    directory.deactivate_user(gone)
    soon = timezone.now() + timedelta(hours=1)
    directory.add_member(world.alpha, world.charlie, Role.ADMIN, expires_at=soon)
    assert groups("--tenant", "team_alpha").splitlines() == [
        "bh:team_alpha:viewer: bob",
        "bh:team_alpha:editor: carol, mia",
        "bh:team_alpha:admin: alice, charlie",
    ]
    world.alpha.memberships.filter(user=world.charlie).update(expires_at=timezone.now())
    everybody = json.loads(groups("--json"))
    assert everybody == {
        "bh:team_alpha:viewer": ["bob"],
        "bh:team_alpha:editor": ["carol", "mia"],
        "bh:team_alpha:admin": ["alice"],
        "bh:team_gamma:viewer": [],
        "bh:team_gamma:editor": ["gina"],
        "bh:team_gamma:admin": ["hugo"],
    }


def test_a_suspended_teams_groups_are_empty(world: World) -> None:
    directory.suspend_tenant(world.gamma)
    assert set(map(tuple, json.loads(groups("--json", "--tenant", "team_gamma")).values())) == {()}
    with pytest.raises(CommandError, match="There is no team team_omega"):
        groups("--tenant", "team_omega")
