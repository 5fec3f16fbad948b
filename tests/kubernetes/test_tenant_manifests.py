"""The command ``tenant_manifests``: what it prints, what it writes, and what it leaves alone."""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from django.conf import settings as configured
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.identity.directory import create_tenant, suspend_tenant
from tenants.kubernetes.bundle import cluster_wide, writers
from tenants.kubernetes.bundle.objects import render, team_of
from tenants.models import Tenant
from tests.support.bundles import HERE, TEAM
from tests.support.certificates import Authority
from tests.support.commands import manage, refusal, run
from tests.support.git_folders import TENANT_FOLDER, tree, write
from tests.support.people import CANARY, World, committed

REPO = "https://git.example.com/platform/clusters.git"
ARGO = "system:serviceaccount:argocd:argocd-application-controller"
Object = dict[str, Any]


def objects(text: str) -> list[Object]:
    return [*yaml.safe_load_all(text)]


def printed(*words: str) -> list[Object]:
    """Return the objects that the command prints."""
    return objects(run("tenant_manifests", *words))


# --- Printed ---


def test_a_teams_bundle_is_printed_as_it_is_rendered(world: World) -> None:
    assert printed("team_alpha") == render(team_of(world.alpha), configured.KUBERNETES)


def test_nothing_of_another_team_is_printed(world: World) -> None:
    """L28."""
    text = run("tenant_manifests", "team_alpha")
    assert CANARY not in text
    assert "gamma" not in text


def test_several_teams_are_printed_each_once(world: World) -> None:
    found = printed("team_gamma", "team_alpha", "team_gamma")
    namespaces = [obj["metadata"]["name"] for obj in found if obj["kind"] == "Namespace"]
    assert namespaces == ["bh-team-gamma", "bh-team-alpha"]
    assert len(found) == 36
    assert printed("--all") == printed("team_alpha", "team_gamma")


def test_what_a_cluster_has_once_comes_first(world: World) -> None:
    once = printed("--cluster-wide")
    assert once == [
        *cluster_wide.render(configured.KUBERNETES),
        *cluster_wide.controller(configured.KUBERNETES),
    ]
    assert printed("team_alpha", "--cluster-wide") == [*once, *printed("team_alpha")]


def test_a_suspended_team_is_printed_emptied(world: World) -> None:
    suspend_tenant(world.alpha)
    [quota] = [obj for obj in printed("team_alpha") if obj["metadata"]["name"] == "bh-compute"]
    assert quota["spec"]["hard"]["pods"] == "0"


def test_the_head_says_how_it_is_applied(world: World) -> None:
    text = run("tenant_manifests", "team_alpha")
    assert text.startswith("# Made by Bulkhead")
    assert "# kubectl apply --server-side --field-manager=bulkhead -f " in text
    assert f"# add --as={cluster_wide.registry_user(configured.KUBERNETES)}\n" in text


@committed
def test_nothing_else_is_printed_where_kubectl_reads(world: World) -> None:
    done = manage("tenant_manifests", "team_alpha")
    assert done.returncode == 0, done.stderr
    assert objects(done.stdout) == render(team_of(world.alpha), configured.KUBERNETES)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("team_delta",), "There is no team team_delta."),
        (("team_alpha", "team_delta"), "There is no team team_delta."),
        (("team-alpha",), "There is no team team-alpha."),
        ((), "Name a team, or use --all, --cluster-wide or --argocd."),
        (("team_alpha", "--all"), "Name teams or use --all, not both."),
        (("--all", "--cluster", "moon"), "There is no cluster moon, but default."),
        (("--argocd",), "--argocd needs --repo"),
        (("--argocd", "--revision", "main"), "--argocd needs --repo"),
        (("--all", "--repo", REPO), "go with --argocd"),
        (("--all", "--path", "a"), "go with --argocd"),
        (("--argocd", "--repo", ""), "The url '' of a repository cannot be used."),
        (("--argocd", "--repo", "https://a b"), "cannot be used"),
        (("--argocd", "--repo", "https://{{.slug}}"), "cannot be used"),
        (("--argocd", "--repo", REPO, "--path", "../x"), "no folder inside a repository"),
        (("--argocd", "--repo", REPO, "--path", "/x"), "no folder inside a repository"),
        (("--argocd", "--repo", REPO, "--path", "a//b"), "no folder inside a repository"),
        (("team_alpha", "--writer", "x"), "--writer and --webhook-ca go with --cluster-wide"),
        (("--cluster-wide", "--webhook-url", "https://a"), "--webhook-url goes with --webhook-ca"),
        (("--cluster-wide", "--webhook-ca", "/nowhere/ca.crt"), "--webhook-ca: "),
        (("--cluster-wide", "--webhook-ca", __file__), "holds no certificate"),
    ],
)
def test_what_cannot_be_done_is_said(world: World, words: tuple[str, ...], reason: str) -> None:
    assert reason in refusal("tenant_manifests", *words)


def test_other_users_may_be_named_who_may_create_namespaces(world: World) -> None:
    text = run("tenant_manifests", "--cluster-wide", "--writer", "kube-admin", "--writer", "o'neil")
    assert "in ['kube-admin', \"o'neil\"]" in text
    assert f"in ['{cluster_wide.registry_user(HERE)}']" not in text


def test_the_webhook_is_asked_where_its_authority_is_known(world: World, tmp_path: Path) -> None:
    authority = str(Authority(tmp_path / "ca").file)
    without = printed("--cluster-wide")
    [*rest, webhook] = printed("--cluster-wide", "--webhook-ca", authority)
    assert rest == without
    assert webhook["kind"] == "ValidatingWebhookConfiguration"
    assert webhook["webhooks"][0]["clientConfig"]["service"]["namespace"] == "bulkhead"
    url = "https://bulkhead.example.com/kubernetes/admission"
    words = ("--cluster-wide", "--webhook-ca", authority, "--webhook-url", url)
    [*_, elsewhere] = printed(*words)
    assert elsewhere["webhooks"][0]["clientConfig"]["url"] == url
    run("tenant_manifests", "--kustomize", str(tmp_path / "repo"), "--webhook-ca", authority)
    [bundle] = (tmp_path / "repo").rglob("cluster-wide/bundle.yaml")
    assert webhook in objects(bundle.read_text())


# --- Folders ---


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "repo"


ONCE = "clusters/default/cluster-wide"


def test_a_tenant_has_a_folder_and_what_is_there_once_another(world: World, repo: Path) -> None:
    said = write(repo, "team_alpha")
    files = tree(repo)
    assert said == [f"wrote {path}" for path in sorted(files)]
    assert set(files) == {
        *(
            f"{TENANT_FOLDER}/{name}"
            for name in ("bundle.yaml", "kustomization.yaml", "tenant.json")
        ),
        *(f"{ONCE}/{name}" for name in ("bundle.yaml", "kustomization.yaml")),
    }
    assert objects(files[f"{TENANT_FOLDER}/bundle.yaml"]) == printed("team_alpha")
    assert objects(files[f"{ONCE}/bundle.yaml"]) == printed("--cluster-wide")
    for folder in (TENANT_FOLDER, ONCE):
        assert objects(files[f"{folder}/kustomization.yaml"]) == [
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": ["bundle.yaml"],
            }
        ]
    assert json.loads(files[f"{TENANT_FOLDER}/tenant.json"]) == {
        "madeBy": "bulkhead",
        "cluster": "default",
        "namespace": "bh-team-alpha",
        "slug": "team_alpha",
        "tenantId": str(world.alpha.pk),
    }


def test_a_second_run_changes_nothing(world: World, repo: Path) -> None:
    write(repo, "--all")
    before = {path: path.stat().st_mtime_ns for path in repo.rglob("*")}
    assert write(repo, "--all") == ["Nothing has changed."]
    assert {path: path.stat().st_mtime_ns for path in repo.rglob("*")} == before


def test_only_what_has_changed_is_written(world: World, repo: Path) -> None:
    write(repo, "--all")
    suspend_tenant(world.alpha)
    assert write(repo, "--all") == [f"wrote {TENANT_FOLDER}/bundle.yaml"]
    assert [path.name for path in repo.rglob(".*")] == []


def test_folders_of_other_teams_stay_and_one_without_a_team_is_named(
    world: World, repo: Path
) -> None:
    """Nothing is deleted by itself: whoever applies a folder would delete a namespace."""
    write(repo, "--all")
    gone = repo / "clusters/default/tenants/team_gone"
    gone.mkdir()
    (gone / "tenant.json").write_text("{}")
    before = tree(repo)
    said = write(repo, "team_alpha")
    assert said == [
        "Nothing has changed.",
        "left clusters/default/tenants/team_gone: there is no such team",
    ]
    assert tree(repo) == before


def own_file(file: Path) -> None:
    file.write_text("kind: Own\n")


def a_link(file: Path) -> None:
    target = file.parent / "target.yaml"
    target.write_text(f"{writers.MARK}\n")
    file.symlink_to(target)


def a_dead_link(file: Path) -> None:
    file.symlink_to(file.parent / "nowhere")


def a_folder(file: Path) -> None:
    file.mkdir()


def no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("made", [own_file, a_link, a_dead_link, a_folder, no_text])
@pytest.mark.parametrize("name", ["bundle.yaml", "kustomization.yaml", "tenant.json"])
def test_a_file_of_others_is_not_touched_and_nothing_is_written(
    world: World, repo: Path, name: str, made: Any
) -> None:
    folder = repo / TENANT_FOLDER
    folder.mkdir(parents=True)
    made(folder / name)
    before = sorted(repo.rglob("*"))
    assert f"{folder / name} is not Bulkhead's" in refusal(
        "tenant_manifests", "--kustomize", str(repo), "--all"
    )
    assert sorted(repo.rglob("*")) == before


@pytest.mark.parametrize("text", ["[]", '"madeBy"', "{}", '{"madeBy": ""}', "{", "# Made by Bulk"])
def test_facts_that_are_not_ours_are_not_replaced(world: World, repo: Path, text: str) -> None:
    file = repo / TENANT_FOLDER / "tenant.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    refusal("tenant_manifests", "--kustomize", str(repo), "team_alpha")
    assert file.read_text() == text


def test_files_beside_ours_stay(world: World, repo: Path) -> None:
    folder = repo / TENANT_FOLDER
    folder.mkdir(parents=True)
    own_file(folder / "extra.yaml")
    write(repo, "--all")
    assert (folder / "extra.yaml").read_text() == "kind: Own\n"


def test_where_no_folder_can_be_made_it_says_so(world: World, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    reason = refusal("tenant_manifests", "--kustomize", str(file), "--all")
    assert reason.startswith(f"Cannot write to {file}: ")


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_half_done(
    world: World, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repo, "--all")
    before = tree(repo)

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    suspend_tenant(world.alpha)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        refusal("tenant_manifests", "--kustomize", str(repo), "--all")
    assert tree(repo) == before


@pytest.fixture
def two_clusters(settings: Settings) -> Iterator[None]:
    clusters = (Cluster("east"), Cluster("west"))
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=clusters)
    yield


@pytest.mark.usefixtures("two_clusters")
def test_each_cluster_has_a_folder_of_its_own(world: World, repo: Path) -> None:
    write(repo, "team_alpha", "--cluster", "west")
    assert {path.name for path in (repo / "clusters").iterdir()} == {"west"}
    write(repo, "team_alpha")
    files = tree(repo)
    east = {path: text for path, text in files.items() if path.startswith("clusters/east/")}
    assert len(east) == 5 and len(files) == 10
    for path, text in east.items():
        assert files[path.replace("east", "west", 1)] == text.replace("east", "west")


# --- Argo CD ---


def argocd(*words: str) -> tuple[Object, Object]:
    [once, tenants] = printed("--argocd", "--repo", REPO, *words)
    return once, tenants


def test_argo_cd_makes_an_application_of_each_tenants_folder(world: World) -> None:
    once, tenants = argocd("--revision", "main", "--path", "kubernetes/live")
    assert tenants["kind"] == "ApplicationSet"
    [generator] = tenants["spec"]["generators"]
    assert generator == {
        "git": {
            "repoURL": REPO,
            "revision": "main",
            "files": [{"path": "kubernetes/live/clusters/default/tenants/*/tenant.json"}],
        }
    }
    assert tenants["spec"]["goTemplate"] is True
    assert tenants["spec"]["goTemplateOptions"] == ["missingkey=error"]
    source = tenants["spec"]["template"]["spec"]["source"]
    assert source == {"repoURL": REPO, "targetRevision": "main", "path": "{{.path.path}}"}
    assert once["kind"] == "Application"
    assert once["spec"]["source"]["path"] == "kubernetes/live/clusters/default/cluster-wide"


def test_argo_cd_deletes_nothing_and_makes_no_namespace_itself(world: World) -> None:
    once, tenants = argocd()
    assert tenants["spec"]["syncPolicy"] == {
        "preserveResourcesOnDeletion": True,
        "applicationsSync": "create-update",
    }
    for spec in (once["spec"], tenants["spec"]["template"]["spec"]):
        assert spec["syncPolicy"]["syncOptions"] == ["ServerSideApply=true"]
        assert spec["syncPolicy"]["automated"]["prune"] is False
    assert "finalizers" not in once["metadata"]


def test_the_template_asks_only_for_what_the_facts_hold(world: World, repo: Path) -> None:
    """With ``missingkey=error`` anything else would stop all applications."""
    write(repo, "team_alpha")
    facts = json.loads((repo / TENANT_FOLDER / "tenant.json").read_text())
    _, tenants = argocd()
    asked = set(yaml.safe_dump(tenants["spec"]["template"]).split("{{.")[1:])
    names = {part.split("}}")[0] for part in asked}
    assert names - {"path.path"} == {"namespace", "cluster"} <= set(facts)


def test_with_argo_cd_it_is_who_makes_namespaces(world: World, repo: Path) -> None:
    write(repo, "--all", "--argocd", "--repo", REPO)
    files = tree(repo)
    assert objects(files["clusters/default/argocd.yaml"]) == [*argocd()]
    guard = files[f"{ONCE}/bundle.yaml"]
    assert f"request.userInfo.username in ['{ARGO}']" in guard
    assert write(repo, "--all", "--argocd", "--repo", REPO) == ["Nothing has changed."]
    write(repo, "--all", "--argocd", "--repo", REPO, "--writer", "somebody")
    assert "in ['somebody']" in (repo / ONCE / "bundle.yaml").read_text()


@pytest.mark.usefixtures("two_clusters")
def test_applications_of_two_clusters_have_different_names(world: World) -> None:
    found = printed("--argocd", "--repo", REPO)
    names = [obj["metadata"]["name"] for obj in found]
    assert len(found) == len(set(names)) == 4
    assert len(printed("--argocd", "--repo", REPO, "--cluster", "west")) == 2


@given(st.text(max_size=30))
def test_a_repository_gives_argo_cd_no_instructions(url: str) -> None:
    try:
        repository = writers.Repository(url)
    except ValueError:
        return
    text = writers.argocd_files("default", repository)["clusters/default/argocd.yaml"]
    assert objects(text)[0]["spec"]["source"]["repoURL"] == url
    assert not set("{}") & set(url)


# --- Zips ---


def test_a_zip_holds_the_files_and_is_the_same_each_time() -> None:
    files = writers.kustomize_files(TEAM, HERE, "default")
    made = writers.zip_of(files)
    assert made == writers.zip_of(dict(reversed(files.items())))
    with zipfile.ZipFile(io.BytesIO(made)) as archived:
        assert archived.namelist() == sorted(files)
        for entry in archived.infolist():
            assert archived.read(entry).decode() == files[entry.filename]
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
    other = writers.kustomize_files(replace(TEAM, id=UUID(int=1)), HERE, "default")
    assert writers.zip_of(other) != made


def test_the_same_teams_always_give_the_same_bytes(world: World) -> None:
    create_tenant("team_delta", "Delta")
    first = run("tenant_manifests", "--all", "--cluster-wide")
    assert first == run("tenant_manifests", "--all", "--cluster-wide")
    assert len(objects(first)) == 18 * Tenant.objects.count() + 14
