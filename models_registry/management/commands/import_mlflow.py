"""``manage.py import_mlflow``: copy the models of a stock MLflow server into teams."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from models_registry.exchange import command
from models_registry.exchange.mlflow_client import MlflowModel, MlflowServer, RemoteProblem
from models_registry.exchange.mlflow_import import Importer
from models_registry.exchange.team_rules import ByRule, RulesProblem, parse_rules
from models_registry.models import RegisteredModel
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant


class Command(BaseCommand):
    """Import from an MLflow server."""

    help = (
        "Copy registered models, prompts among them, with versions, tags, aliases, stages and "
        "times from a stock MLflow server. A second run copies what is missing or differs; "
        "nothing is deleted. The exit code is 1 if something could not be copied, and 2 if the "
        "input or the server is of no use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the server and the teams."""
        command.add_arguments(parser)
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--team", metavar="SLUG", help="the team that gets all models")
        whose.add_argument(
            "--map",
            metavar="FILE",
            help="a YAML list of rules, the first that fits decides: - {name: 'fraud-*', tag: "
            "{key: value}, experiment: Default, team: team_alpha}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Copy, and report."""
        server = command.server(options)
        importer = Importer(
            server, with_files=options["with_artifacts"], dry_run=options["dry_run"]
        )
        team_of: Callable[[MlflowModel], Tenant | None]
        if options["map"] is None:
            team = command.team(options["team"])
            teams, team_of = [team], lambda model: team
        else:
            by_rule = _by_rule(server, options["map"])
            teams, team_of = list(by_rule.teams.values()), by_rule
        for tenant in teams:
            command.check_writable(tenant)
        try:
            models = server.models()
        except RemoteProblem as problem:
            raise command.unusable(str(problem)) from None
        run = command.CommandRun(self, options)
        if run.follow(importer.copy_all(models, team_of), len(models)):
            copied = {(report.team, report.name) for report in run.reports}
            run.end({team.slug: _others(team, copied) for team in teams})
        else:
            run.end({})


def _by_rule(server: MlflowServer, name: str) -> ByRule:
    try:
        return ByRule(server, parse_rules(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise command.unusable(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise command.unusable(f"{name} is not UTF-8 text: see byte {error.start + 1}.") from None
    except RulesProblem as problem:
        raise command.unusable(f"{name}: {problem}") from None


def _others(team: Tenant, copied: set[tuple[str, str]]) -> list[str]:
    """Return the names of the team's models that the server does not have."""
    with tenant_scope(team):
        names = RegisteredModel.objects.values_list("name", flat=True)
        return sorted(name for name in names if (team.slug, name) not in copied)
