"""``manage.py generate_models``: up to millions of made-up models, for benchmarks."""

import time
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from models_registry.demo import generate
from models_registry.demo.generate import Progress

REPORT_SECONDS = 5


class Command(BaseCommand):
    """Make up teams and models, or take them away."""

    help = (
        "Make up teams (bench-0001, …) with models, versions and aliases, for benchmarks. "
        "A second run adds what is missing; --delete takes all of them away."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how many of each."""
        parser.add_argument("--tenants", type=int, default=10, help="teams (10)")
        parser.add_argument("--models", type=int, default=100, help="models of each team (100)")
        parser.add_argument("--versions", type=int, default=2, help="versions of each model (2)")
        parser.add_argument("--delete", action="store_true", help="delete the made-up teams")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and say on stderr how far it has come."""
        if options["delete"]:
            self._follow("Deleted", generate.delete())
            return
        counts = [options[name] for name in ("tenants", "models", "versions")]
        if counts[0] < 1 or min(counts) < 0:
            raise CommandError("Give at least one team, and no negative numbers.")
        try:
            self._follow("Made", generate.generate(*counts))
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None

    def _follow(self, verb: str, steps: Iterator[Progress]) -> None:
        start = reported = time.monotonic()
        teams = models = 0
        for step in steps:
            teams, models = step.done, models + step.models
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                self.stderr.write(
                    f"{teams:,} of {step.teams:,} teams, {models:,} models, "
                    f"{reported - start:.0f} s"
                )
        seconds = time.monotonic() - start
        self.stdout.write(f"{verb} {models:,} models in {teams:,} teams in {seconds:.0f} s.")
