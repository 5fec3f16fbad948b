"""``manage.py export_mlflow``: copy a team's models to a stock MLflow server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from models_registry.exchange import command
from models_registry.exchange.mlflow_client import RemoteProblem
from models_registry.exchange.mlflow_export import Exporter, without_counterpart


class Command(BaseCommand):
    """Export to an MLflow server."""

    help = (
        "Copy a team's registered models with versions, tags, aliases and stages to a stock "
        "MLflow server. Versions keep their numbers: those missing in between are used up there. "
        "A second run copies what is missing or differs; nothing is deleted. The exit code is 1 "
        "if something could not be copied, and 2 if the input or the server is of no use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the server and the team."""
        command.add_arguments(parser)
        parser.add_argument("--team", metavar="SLUG", required=True, help="whose models")

    def handle(self, *args: Any, **options: Any) -> None:
        """Copy, and report."""
        server = command.server(options)
        team = command.team(options["team"])
        exporter = Exporter(
            server, team, with_files=options["with_artifacts"], dry_run=options["dry_run"]
        )
        try:
            there = {model.name: model for model in server.models()}
        except RemoteProblem as problem:
            raise command.unusable(str(problem)) from None
        names = exporter.names()
        run = command.CommandRun(self, options)
        whole = run.follow(exporter.copy_all(names, there), len(names))
        others = sorted(there.keys() - set(names)) if whole else []
        run.end({server.url: others}, _notes(without_counterpart(team)))


def _notes(lost: list[str]) -> list[str]:
    notes = ["MLflow sets the times itself: what was created there has the time of today."]
    return [*notes, *([f"MLflow has no place for {'; '.join(lost)}."] if lost else [])]
