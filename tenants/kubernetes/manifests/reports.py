"""One run of the manifest check: what was read, what was found, and how that is written.

Three ways of writing it: lines as compilers write them, JSON, and SARIF 2.1.0 for what shows
findings beside the code.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tenants.kubernetes.manifests.check import ManifestFinding, check
from tenants.kubernetes.manifests.reader import (
    FilePosition,
    Limits,
    Manifest,
    Reader,
    TooLarge,
    Unreadable,
)
from tenants.kubernetes.manifests.rules.catalogue import ERROR, RULES, WARNING, ManifestRule
from tenants.models import Tenant
from tenants.text import printable

#: The path of the check in the API, below a team's address.
ENDPOINT = "2.0/bulkhead/manifests/check"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True)
class ManifestReport:
    """What a run found; ``unreadable`` are the files that could not be read, and why."""

    findings: list[ManifestFinding]
    unreadable: list[Unreadable] = field(default_factory=list)
    objects: int = 0
    tenant: Tenant | None = None

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.rule.severity == ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return len(self.findings) - self.errors

    @property
    def summary(self) -> str:
        """What was found, in one line."""
        counts = [_count(self.errors, ERROR), _count(self.warnings, WARNING)]
        found = ", ".join(count for count in counts if count) or "nothing wrong"
        unread = _count(len(self.unreadable), "file")
        unread = f"; {unread} could not be read" if unread else ""
        return f"{_count(self.objects, 'object') or 'no objects'}: {found}{unread}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}" if number else ""


def run(
    files: Iterable[tuple[str, bytes]],
    limits: Limits,
    tenant: Tenant | None = None,
    missing: Iterable[Unreadable] = (),
) -> ManifestReport:
    """Check files, given by name and content, as one set; raises nothing for what is in them.

    A file that cannot be read is reported, and the others are checked; ``missing`` are such that
    the caller could not open. With a tenant, its scope must be open.
    """
    reader, manifests, unreadable = Reader(limits), list[Manifest](), [*missing]
    for name, content in files:
        try:
            manifests += reader.read(name, reader.decode(name, content))
        except Unreadable as problem:
            unreadable.append(problem)
    findings: list[ManifestFinding] = []
    try:
        findings = check(manifests, tenant, limits.findings)
    except TooLarge as problem:
        unreadable.append(problem)
    return ManifestReport(findings, unreadable, len(manifests), tenant)


# --- as text -------------------------------------------------------------------------------


def as_lines(report: ManifestReport) -> Iterator[str]:
    """Yield a line for each finding, ``file:line:column: error BH101 message``, and the summary."""
    for problem in report.unreadable:
        yield f"{_printed(problem.place)}: error {problem.message}"
    for finding in report.findings:
        rule = finding.rule
        yield f"{_printed(finding.place)}: {rule.severity} {rule.id} {finding.message}"
    yield f"{report.summary}."


def _printed(place: FilePosition) -> str:
    return f"{printable(place.file)}:{place.line}:{place.column}"


# --- as JSON -------------------------------------------------------------------------------


def as_json(report: ManifestReport, max_findings: int | None = None) -> dict[str, Any]:
    """Return the report as JSON has it.

    ``clean`` is true if there is no error and each file could be read. ``objects``, ``errors`` and
    ``warnings`` are numbers; ``tenant`` and ``namespace`` are whose manifests these are, null where
    their own Namespace objects are the tenants. Each of the ``findings`` has ``rule`` (the id) and
    its ``name``, ``severity`` (error or warning), ``message``, ``help``, where it is (``file``,
    ``line`` and ``column``, which count from 1, and ``path`` inside the object) and the ``object``
    (``kind``, ``name``, ``namespace``, each empty where it says none). ``unreadable`` has the files
    that could not be read: ``file``, ``line``, ``column`` and ``message``. At most ``max_findings``
    findings are listed; ``left_out`` is how many are not.
    """
    listed = report.findings[:max_findings]
    return {
        "clean": not report.errors and not report.unreadable,
        "tenant": report.tenant.slug if report.tenant else None,
        "namespace": report.tenant.namespace if report.tenant else None,
        "objects": report.objects,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [_finding(finding) for finding in listed],
        "left_out": len(report.findings) - len(listed),
        "unreadable": [
            {**_place(problem.place), "message": problem.message} for problem in report.unreadable
        ],
    }


def _finding(finding: ManifestFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.rule.severity,
        "message": finding.message,
        "help": finding.rule.help,
        **_place(finding.place),
        "path": finding.path,
        "object": {
            "kind": finding.kind,
            "name": finding.name,
            "namespace": finding.namespace,
        },
    }


def _place(place: FilePosition) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "column": place.column}


# --- as SARIF ------------------------------------------------------------------------------


def as_sarif(report: ManifestReport, max_findings: int | None = None) -> dict[str, Any]:
    """Return the report as SARIF 2.1.0: one run, all rules, a result for each finding.

    A file that could not be read is a notification of a run that was not successful.
    """
    numbers = {id: number for number, id in enumerate(RULES)}
    invocation: dict[str, Any] = {"executionSuccessful": not report.unreadable}
    if report.unreadable:
        invocation["toolExecutionNotifications"] = [
            {
                "level": ERROR,
                "message": {"text": problem.message},
                "locations": [_location(problem.place)],
            }
            for problem in report.unreadable
        ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Bulkhead",
                        "rules": [_rule(rule) for rule in RULES.values()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [invocation],
                "results": [
                    {
                        "ruleId": finding.rule.id,
                        "ruleIndex": numbers[finding.rule.id],
                        "level": finding.rule.severity,
                        "message": {"text": finding.message},
                        "locations": [_location(finding.place)],
                    }
                    for finding in report.findings[:max_findings]
                ],
            }
        ],
    }


def _rule(rule: ManifestRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.title() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.name.replace("-", " ").capitalize()},
        "fullDescription": {"text": rule.help},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": rule.severity},
    }


def _location(place: FilePosition) -> dict[str, Any]:
    region = {"startLine": place.line, "startColumn": place.column}
    scheme = "file://" if place.file.startswith("/") else ""
    artifact = {"uri": f"{scheme}{quote(place.file)}"}
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}
