"""Bundles as text: YAML for kubectl, folders for kustomize and Argo CD, and zips of those.

The same objects always give the same bytes. Files are given as a dict from path to text, with
paths relative to the root of a repository; each says that Bulkhead made it.
"""

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle import cluster_wide
from tenants.kubernetes.bundle.objects import Object, Team, render

#: The first words of each YAML file that Bulkhead writes, and a key of each JSON file. A file
#: without them is somebody else's and is never replaced.
MARK = "# Made by Bulkhead"
MADE_BY = "madeBy"
#: The command that applies a file. Without --server-side and our field manager, kubectl would
#: become a second manager of each field.
APPLY = f"kubectl apply --server-side --field-manager={names.FIELD_MANAGER} -f"
#: Words and numbers that YAML 1.1 does not read as text: Kubernetes' reader follows 1.1, PyYAML not
#: in all of them.
UNTEXTUAL = re.compile(r"[-+.~\d].*|y|n|yes|no|on|off|true|false|null", re.I | re.S)
#: The time of each file in a zip, the earliest that the format has: equal files give equal zips.
BEGINNING = (1980, 1, 1, 0, 0, 0)
IN_CLUSTER = "https://kubernetes.default.svc"
#: The user name under which Argo CD applies objects, as the cluster has it.
ARGO_CD = "system:serviceaccount:argocd:argocd-application-controller"


class NotOurs(Exception):
    """A file that Bulkhead did not write is in the way; its path is the message."""


class _Dumper(yaml.SafeDumper):
    """Writes text so that every reader takes it for text, and each object in full."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values out: people who read manifests need not know YAML's anchors."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent a list below its key, also where YAML lets it begin in the same column."""
        super().increase_indent(flow, False)

    def text(self, value: str) -> yaml.ScalarNode:
        """Represent text: several lines as they stand, and in quotes what could be misread."""
        plain = value.replace("\n", "").isprintable()
        style = None if plain and not UNTEXTUAL.fullmatch(value) else '"'
        if plain and "\n" in value:
            style = "|"
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)


def to_yaml(objects: Iterable[Object], *comments: str) -> str:
    """Return the objects as YAML documents, below comments of a line each."""
    head = "".join(f"# {line}\n" for line in comments)
    documents = (
        yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000)
        for obj in objects
    )
    return f"{MARK}; what is changed here is lost the next time.\n{head}---\n" + "---\n".join(
        documents
    )


def bundle_yaml(team: Team, installation: Installation) -> str:
    """Return a team's bundle as one YAML file."""
    return to_yaml(
        render(team, installation),
        f"The namespace {team.namespace} of the team {team.slug}. Apply it with:",
        f"{APPLY} FILE",
        "Where the cluster's policies hold, only the registry's account makes such a namespace:",
        f"add --as={cluster_wide.registry_user(installation)}",
    )


def cluster_wide_yaml(
    installation: Installation, writers: Sequence[str] = (), also: Iterable[Object] = ()
) -> str:
    """Return the cluster-wide objects, Bulkhead's own account and ``also``, as one YAML file.

    ``writers`` are as in ``cluster_wide.render``.
    """
    return to_yaml(
        [
            *cluster_wide.render(installation, writers),
            *cluster_wide.controller(installation),
            *also,
        ],
        "What the cluster has once for all teams. Apply it before any team's bundle, with:",
        f"{APPLY} FILE",
        f"Bulkhead's account belongs to the namespace {installation.registry_namespace}, which has",
        "to be there. The policies hold within some seconds.",
    )


def kustomize_files(team: Team, installation: Installation, cluster: str) -> dict[str, str]:
    """Return a team's folder of a repository for one cluster: bundle, kustomization, facts."""
    folder = f"{tenants_folder(cluster)}/{team.slug}"
    facts = {
        MADE_BY: names.MANAGED_BY,
        "cluster": cluster,
        "namespace": team.namespace,
        "slug": team.slug,
        "tenantId": str(team.id),
    }
    return {
        **_kustomization(folder, bundle_yaml(team, installation)),
        f"{folder}/tenant.json": json.dumps(facts, indent=2) + "\n",
    }


def cluster_wide_files(
    installation: Installation,
    cluster: str,
    writers: Sequence[str] = (),
    also: Iterable[Object] = (),
) -> dict[str, str]:
    """Return the folder of the cluster-wide objects; see ``cluster_wide_yaml``."""
    folder = f"clusters/{cluster}/cluster-wide"
    return _kustomization(folder, cluster_wide_yaml(installation, writers, also))


def tenants_folder(cluster: str) -> str:
    """Return the folder in which each tenant of a cluster has one."""
    return f"clusters/{cluster}/tenants"


def _kustomization(folder: str, bundle: str) -> dict[str, str]:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["bundle.yaml"],
    }
    return {
        f"{folder}/bundle.yaml": bundle,
        f"{folder}/kustomization.yaml": to_yaml([kustomization]),
    }


# --- Argo CD ---


@dataclass(frozen=True, slots=True)
class Repository:
    """Where Argo CD finds the folders: a repository, a revision and a folder in it.

    ``server`` is the cluster as Argo CD calls it, ``project`` what it lets its applications do.
    Raises ValueError for an address or a folder that cannot be one.
    """

    url: str
    revision: str = "HEAD"
    folder: str = ""
    project: str = "default"
    server: str = IN_CLUSTER

    def __post_init__(self) -> None:
        for what in ("url", "revision", "project", "server"):
            value = getattr(self, what)
            # Argo CD evaluates these as Go templates, in which braces are instructions.
            if not re.fullmatch(r"[^\s{}\x00-\x1f]+", value):
                raise ValueError(f"The {what} {value!r} of a repository cannot be used.")
        if not re.fullmatch(r"([\w.-]+(/[\w.-]+)*)?", self.folder) or ".." in self.folder:
            raise ValueError(f"{self.folder!r} is no folder inside a repository.")

    def path(self, path: str) -> str:
        """Return a path of ours as it is in the repository."""
        return f"{self.folder}/{path}" if self.folder else path


def argocd_files(cluster: str, repository: Repository) -> dict[str, str]:
    """Return what makes Argo CD apply a cluster's folders: one application for each tenant.

    No application goes with its folder, and none takes its objects with it: a file that is deleted
    by mistake must delete no namespace.
    """
    objects = [_cluster_wide_application(cluster, repository), _tenants_set(cluster, repository)]
    comments = (
        f"Argo CD's applications for the cluster {cluster}. Apply it where Argo CD runs:",
        "kubectl apply -n argocd -f FILE",
        "One writer for each cluster: let Bulkhead itself only plan or observe there.",
    )
    return {f"clusters/{cluster}/argocd.yaml": to_yaml(objects, *comments)}


def _cluster_wide_application(cluster: str, repository: Repository) -> Object:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": f"bulkhead-cluster-wide.{cluster}", "namespace": "argocd"},
        "spec": _application(
            repository, repository.path(f"clusters/{cluster}/cluster-wide"), "default"
        ),
    }


def _tenants_set(cluster: str, repository: Repository) -> Object:
    found = {"path": repository.path(f"{tenants_folder(cluster)}/*/tenant.json")}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": f"bulkhead-tenants.{cluster}", "namespace": "argocd"},
        "spec": {
            "goTemplate": True,
            "goTemplateOptions": ["missingkey=error"],
            "generators": [
                {
                    "git": {
                        "repoURL": repository.url,
                        "revision": repository.revision,
                        "files": [found],
                    }
                }
            ],
            "syncPolicy": {
                "preserveResourcesOnDeletion": True,
                "applicationsSync": "create-update",
            },
            "template": {
                # Neither part can hold a dot, so two different pairs never give one name.
                "metadata": {"name": "{{.namespace}}.{{.cluster}}"},
                "spec": _application(repository, "{{.path.path}}", "{{.namespace}}"),
            },
        },
    }


def _application(repository: Repository, path: str, namespace: str) -> Object:
    return {
        "project": repository.project,
        "source": {
            "repoURL": repository.url,
            "targetRevision": repository.revision,
            "path": path,
        },
        "destination": {"server": repository.server, "namespace": namespace},
        "syncPolicy": {
            "automated": {"prune": False, "selfHeal": True},
            "syncOptions": ["ServerSideApply=true"],
        },
    }


# --- Files ---


def zip_of(files: Mapping[str, str]) -> bytes:
    """Return the files as a zip, byte for byte the same whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archived:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, BEGINNING)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            archived.writestr(entry, files[path])
    return buffer.getvalue()


def left_behind(folder: Path, cluster: str, slugs: Iterable[str]) -> list[str]:
    """Return the folders that we wrote for tenants which are not among ``slugs``; they stay."""
    known = set(slugs)
    return sorted(
        file.parent.relative_to(folder).as_posix()
        for file in folder.glob(f"{tenants_folder(cluster)}/*/tenant.json")
        if file.parent.name not in known
    )


def write_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write what has changed, and return the paths of that.

    Raises NotOurs, before anything is written, where a file or a link is in the way that Bulkhead
    did not make: a link would lead out of the folder. A reader finds each file as it was or as it
    is now, never half of it.
    """
    changed = [path for path in sorted(files) if _read(folder, path) != files[path]]
    for path in changed:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".bulkhead-", encoding="utf-8", newline="", delete=False
        ) as new:
            written = Path(new.name)
            try:
                new.write(files[path])
                new.flush()
                written.chmod(0o644)
                written.replace(file)
            except OSError:
                written.unlink()
                raise
    return changed


def _read(folder: Path, path: str) -> str | None:
    """Return the text of a file of ours, None where there is none; raises NotOurs for another's."""
    file = folder / path
    for parent in (folder / part for part in Path(path).parents):
        if parent != folder and (parent.is_symlink() or (parent.exists() and not parent.is_dir())):
            raise NotOurs(str(parent))
    if not file.exists() and not file.is_symlink():
        return None
    if file.is_symlink() or not file.is_file():
        raise NotOurs(str(file))
    try:
        text = file.read_bytes().decode()
        ours = json.loads(text).get(MADE_BY) if file.suffix == ".json" else text.startswith(MARK)
    except (ValueError, AttributeError, RecursionError):
        ours = False
    if not ours:
        raise NotOurs(str(file))
    return text
