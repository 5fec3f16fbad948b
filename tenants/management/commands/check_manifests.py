"""``manage.py check_manifests``: tell where manifests leave their tenant, for people and for CI."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from errno import ENOENT
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.manifests import reports
from tenants.kubernetes.manifests.reader import FILE_LIMITS, FilePosition, Unreadable
from tenants.management import lookup

#: The exit code for an unreadable file or an unknown team; 1 means that an error was found.
UNUSABLE = 2
#: The files that are read in a folder, at any depth; hidden folders are left out.
SUFFIXES = {".yaml", ".yml", ".json"}
STDIN = "stdin"


class Command(BaseCommand):
    """Check manifests."""

    help = (
        "Check that Kubernetes manifests stay inside their tenant: its namespace, its service "
        "accounts, limits, no way to its neighbours or its node. Without --tenant the manifests' "
        "own Namespace objects are the tenants, and no database is needed. The exit code is 1 if "
        "there is an error, 0 if there are none but warnings, and 2 if a file cannot be read or "
        "there is no object at all."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the files and whose they are."""
        parser.add_argument(
            "files",
            nargs="+",
            metavar="FILE",
            help="YAML or JSON, or a folder of such files; - reads standard input",
        )
        parser.add_argument("--tenant", metavar="SLUG", help="the team whose manifests these are")
        parser.add_argument("--format", choices=("text", "json", "sarif"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, and report."""
        files, missing = _contents(options["files"])
        tenant = None
        if options["tenant"]:
            try:
                tenant = lookup.team(options["tenant"])
            except CommandError as error:
                raise _unusable(str(error)) from None
        with tenant_scope(tenant) if tenant else nullcontext():
            report = reports.run(files, FILE_LIMITS, tenant, missing)
        self._write(report, options["format"])
        if report.unreadable:
            raise _unusable("Not all of it could be read.")
        if not report.objects:
            # Empty input is an error: in a pipe, the command before us may have failed.
            raise _unusable("There is no object in it: nothing was checked.")
        if report.errors:
            raise CommandError("The manifests do not stay inside their tenant.")

    def _write(self, report: reports.ManifestReport, kind: str) -> None:
        if kind == "text":
            for line in reports.as_lines(report):
                self.stdout.write(line)
        else:
            write = reports.as_json if kind == "json" else reports.as_sarif
            self.stdout.write(json.dumps(write(report), indent=2, ensure_ascii=False))


def _unusable(message: str) -> CommandError:
    return CommandError(message, returncode=UNUSABLE)


def _contents(words: Sequence[str]) -> tuple[list[tuple[str, bytes]], list[Unreadable]]:
    """Return each file's name and content, and the files that could not be read."""
    files: dict[str, bytes] = {}
    missing: list[Unreadable] = []
    for word in words:
        try:
            if word == "-":
                files[STDIN] = sys.stdin.buffer.read()
                continue
            for path in _files_of(Path(word)):
                files[_name(path)] = path.read_bytes()
        except OSError as error:
            place = FilePosition(_name(Path(error.filename or word)), 1, 1)
            missing.append(Unreadable(f"This cannot be read: {error.strerror}.", place))
    return [*files.items()], missing


def _files_of(path: Path) -> list[Path]:
    """Return the file, or a folder's files in the order of their names; raises OSError."""
    if not path.is_dir():
        return [path]
    found = [
        inner
        for inner in sorted(path.rglob("*"))
        if inner.suffix in SUFFIXES
        and inner.is_file()
        and not any(part.startswith(".") for part in inner.relative_to(path).parts)
    ]
    if not found:
        raise FileNotFoundError(ENOENT, "no .yaml, .yml or .json is in this folder", str(path))
    return found


def _name(path: Path) -> str:
    """Return a file's name for the report, relative to the current folder if it is below that."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return os.fsencode(path).decode(errors="replace")
