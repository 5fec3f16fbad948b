"""What the two commands that speak with an MLflow server have in common."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bulkhead import env
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from models_registry.exchange.mlflow_client import MlflowServer, RemoteProblem, ServerUnreachable
from models_registry.exchange.steps import ModelReport
from tenants.management import lookup
from tenants.models import Tenant
from tenants.text import printable

PROGRESS_SECONDS = 1
#: Exit code for bad input and for an unreachable server; 1 means that not all was copied.
UNUSABLE = 2
#: At most this many names are in one line of the report; --json lists all of them.
MAX_LISTED_NAMES = 20


def add_arguments(parser: CommandParser) -> None:
    """Take the server, how to sign in there, and what both commands can do."""
    parser.add_argument("--url", required=True, help="the MLflow server's address")
    parser.add_argument(
        "--token", help="its token; better in MLFLOW_TRACKING_TOKEN, where nobody else sees it"
    )
    parser.add_argument(
        "--username", help="its user name; the password is MLFLOW_TRACKING_PASSWORD"
    )
    parser.add_argument(
        "--allow-http", action="store_true", help="send the token or password without https too"
    )
    parser.add_argument("--with-artifacts", action="store_true", help="copy the files too")
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would change, and change nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def server(options: Mapping[str, Any]) -> MlflowServer:
    """Return the server that the options name; the environment may hold what is secret."""
    try:
        password = env.secret("MLFLOW_TRACKING_PASSWORD") if options["username"] else None
        token = options["token"]
        if token is None and not options["username"]:
            token = env.secret("MLFLOW_TRACKING_TOKEN")
    except ImproperlyConfigured as error:
        raise unusable(str(error)) from None
    if options["username"] and options["token"]:
        raise unusable("Give --token or --username, not both.")
    if options["username"] and password is None:
        raise unusable("MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_PASSWORD_FILE, is not set.")
    try:
        return MlflowServer(
            options["url"],
            token=token or "",
            username=options["username"] or "",
            password=password or "",
            allow_http=options["allow_http"],
        )
    except RemoteProblem as problem:
        raise unusable(str(problem)) from None


def team(slug: str) -> Tenant:
    """Return the team of that slug."""
    try:
        return lookup.team(slug)
    except CommandError as error:
        raise unusable(str(error)) from None


def check_writable(tenant: Tenant) -> None:
    """Refuse a team to which no model can come."""
    if tenant.status == Tenant.Status.SUSPENDED:
        raise unusable(f"The team {tenant.slug} is suspended: nothing in it may change.")


def unusable(message: str) -> CommandError:
    """Return the error for bad input or a server that is not there."""
    return CommandError(message, returncode=UNUSABLE)


class CommandRun:
    """One run of a command: it follows the reports, prints them, and says how the run ended."""

    def __init__(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        self._command = command
        self._as_json = options["json"]
        self._dry_run = options["dry_run"]
        self.reports: list[ModelReport] = []
        self._stopped = ""

    def follow(self, reports: Iterator[ModelReport], total: int) -> bool:
        """Collect the reports, and say on stderr how far it has come; tell whether it got through.

        A server that goes away, or Ctrl-C, ends the run, not its report.
        """
        shown_at = time.monotonic()
        try:
            for report in reports:
                self.reports.append(report)
                done = len(self.reports)
                if done == total or time.monotonic() - shown_at > PROGRESS_SECONDS:
                    shown_at = time.monotonic()
                    self._command.stderr.write(f"{done:,} of {total:,} models")
        except ServerUnreachable as problem:
            self._stopped = str(problem)
        except KeyboardInterrupt:
            self._stopped = "Interrupted."
        if self._stopped:
            self._stopped += (
                f" {len(self.reports):,} of {total:,} models are done; run the command again to "
                "go on."
            )
        return not self._stopped

    def end(self, only_here: Mapping[str, Sequence[str]], notes: Sequence[str] = ()) -> None:
        """Print the report; raises CommandError unless all was copied.

        ``only_here`` are names of models that the target alone has, by what it is.
        """
        incomplete = sum(bool(report.problems) for report in self.reports)
        if self._as_json:
            self._print_json(only_here, notes, complete=not incomplete and not self._stopped)
        else:
            self._print_text(only_here, notes)
        if self._stopped:
            raise unusable(self._stopped)
        if incomplete:
            raise CommandError(f"{incomplete:,} models could not be copied whole; see the report.")

    def _print_json(
        self, only_here: Mapping[str, Sequence[str]], notes: Sequence[str], *, complete: bool
    ) -> None:
        document = {
            "complete": complete,
            "dry_run": self._dry_run,
            "models": [asdict(report) for report in self.reports],
            "only_here": only_here,
            "notes": notes,
        }
        self._command.stdout.write(json.dumps(document, indent=2, ensure_ascii=False))

    def _print_text(self, only_here: Mapping[str, Sequence[str]], notes: Sequence[str]) -> None:
        write = self._command.stdout.write
        for slug in sorted({report.team for report in self.reports if report.team}):
            reports = [report for report in self.reports if report.team == slug]
            write(f"{slug}: {_counts(reports)}")
            for report in reports:
                for line in report.lines():
                    write(f"  {line}")
        elsewhere = [report for report in self.reports if not report.team]
        if no_rule := [report.name for report in elsewhere if not report.problems]:
            write(f"left out, since no rule fits: {_some(no_rule)}")
        for report in elsewhere:
            for line in report.lines() if report.problems else ():
                write(line)
        for where, names in only_here.items():
            if names:
                write(f"only in {where}: {_some(names)}")
        for note in notes:
            write(note)
        if self._dry_run:
            write("This was a dry run: nothing was changed.")


def _counts(reports: Sequence[ModelReport]) -> str:
    counts = {
        outcome: sum(report.outcome == outcome for report in reports)
        for outcome in ("created", "updated", "unchanged", "left out")
    }
    incomplete = sum(bool(report.problems) for report in reports)
    words = [f"{count:,} {what}" for what, count in counts.items() if count or what != "left out"]
    return ", ".join([*words, *([f"{incomplete:,} not copied whole"] if incomplete else [])])


def _some(names: Iterable[str]) -> str:
    """Return the first names in one line, and how many more there are."""
    listed = [printable(name) for name in names]
    more = f" and {len(listed) - MAX_LISTED_NAMES:,} more" if len(listed) > MAX_LISTED_NAMES else ""
    return f"{', '.join(listed[:MAX_LISTED_NAMES])}{more}"
