"""The page on which manifests are checked before they are applied; nothing of them is kept."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants.access import member
from tenants.context import acting_team
from tenants.kubernetes.manifests import reports
from tenants.kubernetes.manifests.check import ManifestFinding
from tenants.kubernetes.manifests.reader import (
    SENT_LIMITS,
    FilePosition,
    TooLarge,
    Unreadable,
    lines_of,
)
from tenants.kubernetes.manifests.rules.catalogue import ERROR, WARNING
from tenants.models import Tenant
from tenants.requests import require_get_or_post
from tenants.team_paths import team_address
from tenants.text import shown

#: The file name of pasted manifests in findings.
PASTED = "pasted text"
#: At most this many findings are shown on the page.
MAX_SHOWN_FINDINGS = 200

#: A pod with two common mistakes: the wrong namespace, and its node's network.
EXAMPLE = """\
apiVersion: v1
kind: Pod
metadata:
  name: scorer
  namespace: default
  labels: {{{label}: {slug}}}
spec:
  automountServiceAccountToken: false
  hostNetwork: true
  containers:
    - name: scorer
      image: scorer:1.4
      securityContext: {{allowPrivilegeEscalation: false}}
      resources:
        requests: {{cpu: 500m, memory: 1Gi}}
        limits: {{cpu: "1", memory: 1Gi}}
"""


class CheckForm(forms.Form):
    """A field for pasted manifests; the check reads them, not the form."""

    manifests = forms.CharField(
        label="Manifests",
        required=False,
        widget=forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "autocomplete": "off"}),
        help_text="YAML or JSON, as many documents as you like, up to 1 MiB.",
    )


@dataclass(frozen=True, slots=True)
class ShownProblem:
    """A finding or a problem, and the line that it is about."""

    place: FilePosition
    message: str
    line: str
    finding: ManifestFinding | None = None

    @property
    def is_pasted(self) -> bool:
        """Whether it is about the pasted text."""
        return self.place.file == PASTED


@member
@require_get_or_post
def check_manifests(request: HttpRequest, tenant: str) -> HttpResponse:
    """Check what is pasted and the files that are sent; without either, check an example."""
    team = acting_team()
    if request.method != "POST":
        return render(request, "tenants/check_manifests.html", _example(team))
    text = request.POST.get("manifests", "")
    files = _sent(text, request.FILES.getlist("files"))
    if not files:
        context = _example(team) | {"error": "Paste a manifest or choose a file."}
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    else:
        report = reports.run(files.items(), SENT_LIMITS, team)
        context = _page(team, report, files) | {"form": CheckForm(initial={"manifests": text})}
        status = _status(report)
    return render(request, "tenants/check_manifests.html", context, status=status)


def _sent(text: str, uploads: list["UploadedFile[Any]"]) -> dict[str, bytes]:
    """Return the files by name; a second file of the same name gets a number."""
    files = {PASTED: text.encode(errors="replace")} if text.strip() else {}
    for upload in uploads:
        name, number = upload.name or "file", 2
        while name in files:
            name, number = f"{upload.name} ({number})", number + 1
        files[name] = upload.read()
    return files


def _status(report: reports.ManifestReport) -> HTTPStatus:
    if any(isinstance(problem, TooLarge) for problem in report.unreadable):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return HTTPStatus.UNPROCESSABLE_ENTITY if report.unreadable else HTTPStatus.OK


def _example(team: Tenant) -> dict[str, Any]:
    """Return the page before anything was sent: an example, with what the check finds in it."""
    text = EXAMPLE.format(label=settings.KUBERNETES.label("tenant"), slug=team.slug)
    files = {"example": text.encode()}
    report = reports.run(files.items(), SENT_LIMITS, team)
    return _page(team, report, files) | {"form": CheckForm(), "example": text}


def _page(team: Tenant, report: reports.ManifestReport, files: dict[str, bytes]) -> dict[str, Any]:
    """Return the context of the page for a report."""
    lines = {name: lines_of(content.decode(errors="replace")) for name, content in files.items()}

    def line(place: FilePosition) -> str:
        of_file = lines[place.file]
        return shown(of_file[place.line - 1].strip()) if place.line <= len(of_file) else ""

    def problem(one: Unreadable) -> ShownProblem:
        return ShownProblem(one.place, one.message, line(one.place))

    def finding(one: ManifestFinding) -> ShownProblem:
        return ShownProblem(one.place, one.message, line(one.place), one)

    listed = report.findings[:MAX_SHOWN_FINDINGS]
    return {
        "team": team,
        "report": report,
        "unreadable": [problem(one) for one in report.unreadable],
        "groups": [
            (title, tone, [finding(one) for one in listed if one.rule.severity == severity])
            for severity, title, tone in ((ERROR, "Errors", "bad"), (WARNING, "Warnings", "warn"))
        ],
        "left_out": len(report.findings) - len(listed),
        "address": f"{team_address(team.slug)}/api/{reports.ENDPOINT}",
    }
