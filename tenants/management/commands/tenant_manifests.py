"""``manage.py tenant_manifests``: print what Kubernetes needs for teams, or write it to folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from tenants.kubernetes.bundle import writers
from tenants.kubernetes.bundle.objects import Object, Team, team_of
from tenants.kubernetes.bundle.webhook import render_webhook
from tenants.management import lookup
from tenants.models import Tenant
from tenants.text import shown


class Command(BaseCommand):
    """Print the Kubernetes objects of teams, or write them to the folders of a repository."""

    help = (
        "Print the Kubernetes objects of teams as YAML: manage.py tenant_manifests TEAM | "
        "kubectl apply --server-side --field-manager=bulkhead -f -. With --kustomize they are "
        "written to a folder, where nothing is ever deleted and no file of others replaced."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose objects are wanted, and how."""
        whose = parser.add_argument_group("whose objects")
        whose.add_argument("slugs", nargs="*", metavar="SLUG", help="a team's slug")
        whose.add_argument("--all", action="store_true", help="all teams")
        whose.add_argument(
            "--cluster-wide",
            action="store_true",
            help="what a cluster has once, and Bulkhead's own account in it",
        )
        whose.add_argument(
            "--writer",
            action="append",
            metavar="USER",
            help="who makes teams' namespaces, as the cluster calls them (Bulkhead's account; with "
            "--argocd Argo CD's); may be repeated",
        )
        whose.add_argument(
            "--webhook-ca",
            type=Path,
            metavar="FILE",
            help="with what a cluster has once: ask Bulkhead's admission webhook; the file holds "
            "the certificate that vouches for it, in PEM",
        )
        whose.add_argument(
            "--webhook-url",
            metavar="URL",
            help="where the webhook listens (a Service in Bulkhead's namespace)",
        )
        where = parser.add_argument_group("to folders")
        where.add_argument(
            "--kustomize",
            type=Path,
            metavar="DIR",
            help="write the teams' and what the cluster has once to DIR/clusters/CLUSTER/…",
        )
        where.add_argument("--cluster", metavar="NAME", help="for this cluster alone (all)")
        argo = parser.add_argument_group("for Argo CD")
        argo.add_argument(
            "--argocd",
            action="store_true",
            help="its applications: written with --kustomize, otherwise printed",
        )
        argo.add_argument("--repo", metavar="URL", help="the repository that DIR is kept in")
        argo.add_argument("--revision", help="a branch or a tag (HEAD, the main branch)")
        argo.add_argument(
            "--path", metavar="FOLDER", help="DIR's place in the repository (its top)"
        )
        argo.add_argument("--project", help="the project of the applications (default)")
        argo.add_argument("--server", metavar="URL", help="the cluster (where Argo CD runs)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print or write, or say what is wrong."""
        repository = self.repository(options)
        clusters = self.clusters(options["cluster"])
        teams = self.teams(options["slugs"], everybody=options["all"])
        writing = options["writer"] or ([writers.ARGO_CD] if repository else [])
        also = self.webhook(options["webhook_ca"], options["webhook_url"])
        once = options["cluster_wide"] or options["kustomize"]
        if not once and (options["writer"] or also):
            raise CommandError("--writer and --webhook-ca go with --cluster-wide or --kustomize.")
        if options["kustomize"]:
            files: dict[str, str] = {}
            for cluster in clusters:
                files |= writers.cluster_wide_files(settings.KUBERNETES, cluster, writing, also)
                for team in teams:
                    files |= writers.kustomize_files(team, settings.KUBERNETES, cluster)
                if repository:
                    files |= writers.argocd_files(cluster, repository)
            self.write(options["kustomize"], files, clusters)
            return
        texts = []
        if options["cluster_wide"]:
            texts.append(writers.cluster_wide_yaml(settings.KUBERNETES, writing, also))
        texts += [writers.bundle_yaml(team, settings.KUBERNETES) for team in teams]
        if repository:
            for cluster in clusters:
                texts += writers.argocd_files(cluster, repository).values()
        if not texts:
            raise CommandError("Name a team, or use --all, --cluster-wide or --argocd.")
        self.stdout.write("".join(texts), ending="")

    def teams(self, slugs: list[str], *, everybody: bool) -> list[Team]:
        """Return the teams that the arguments name, each once; raises CommandError."""
        if everybody and slugs:
            raise CommandError("Name teams or use --all, not both.")
        if everybody:
            return [team_of(tenant) for tenant in Tenant.objects.all()]
        return [team_of(lookup.team(slug)) for slug in dict.fromkeys(slugs)]

    def clusters(self, only: str | None) -> list[str]:
        """Return the names of all clusters, or of the one chosen; raises CommandError."""
        known = [cluster.name for cluster in settings.KUBERNETES.clusters]
        if only is None:
            return known
        if only not in known:
            raise CommandError(f"There is no cluster {only}, but {', '.join(known)}.")
        return [only]

    def repository(self, options: dict[str, Any]) -> writers.Repository | None:
        """Return the repository that Argo CD reads, None without --argocd; raises CommandError."""
        names = {"repo": "url", "path": "folder"}
        given = {
            names.get(option, option): options[option]
            for option in ("repo", "revision", "path", "project", "server")
            if options[option] is not None
        }
        if not options["argocd"]:
            if given:
                raise CommandError("--repo and what says more about it go with --argocd.")
            return None
        if "url" not in given:
            raise CommandError("--argocd needs --repo, the repository that Argo CD reads.")
        try:
            return writers.Repository(**given)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def webhook(self, bundle: Path | None, url: str | None) -> list[Object]:
        """Return the webhook's configuration if --webhook-ca is given; raises CommandError."""
        if bundle is None:
            if url is not None:
                raise CommandError("--webhook-url goes with --webhook-ca.")
            return []
        try:
            pem = bundle.read_bytes()
            return [render_webhook(settings.KUBERNETES, ca_bundle=pem, url=url or "")]
        except OSError as error:
            raise CommandError(f"--webhook-ca: {error}") from None
        except ValueError as error:
            raise CommandError(str(error)) from None

    def write(self, folder: Path, files: dict[str, str], clusters: list[str]) -> None:
        """Write the changed files and print their names, and the folders of teams that are gone.

        Raises CommandError.
        """
        try:
            changed = writers.write_files(folder, files)
        except writers.NotOurs as error:
            raise CommandError(f"{error} is not Bulkhead's; nothing was written.") from None
        except OSError as error:
            raise CommandError(f"Cannot write to {folder}: {error}") from None
        say: Callable[[str], None] = self.stdout.write
        for path in changed:
            say(f"wrote {path}")
        if not changed:
            say("Nothing has changed.")
        slugs = Tenant.objects.values_list("slug", flat=True)
        for cluster in clusters:
            for path in writers.left_behind(folder, cluster, slugs):
                say(f"left {shown(path)}: there is no such team")
