"""What pages of both apps call: times, days, initials, and events in words."""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from django.utils.timesince import timesince

from tenants.models import AuditEvent, NamespaceState

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86_400, 604_800
#: Below, no calendar is needed: a month has at least 28 days.
SHORTEST_MONTH = 28 * DAY
UNITS = ((WEEK, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"))


def when(moment: datetime | None) -> str:
    """Write a time as its distance from now; the time itself is in the title."""
    if moment is None:
        return "never"
    full = moment.isoformat()
    return mark_safe(  # noqa: S308  # times and numbers have nothing to escape
        f'<time datetime="{full}" title="{full[:10]} {full[11:19]} UTC">{_distance(moment)}</time>'
    )


def _distance(moment: datetime) -> str:
    """Say what Django's ``timesince`` says, which looks at the calendar for each distance."""
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < MINUTE:
        return "just now"
    if seconds >= SHORTEST_MONTH:
        return f"{timesince(moment, depth=1)} ago"
    size, unit = next(unit for unit in UNITS if seconds >= unit[0])
    count = int(seconds // size)
    return f"{count}\xa0{unit}{'' if count == 1 else 's'} ago"


def by_day(events: Iterable[AuditEvent]) -> list[tuple[date, list[AuditEvent]]]:
    """Return events that are in the order of time as one group for each day."""
    days = groupby(events, key=lambda event: event.created_at.date())
    return [(day, list(group)) for day, group in days]


def initials(name: str) -> str:
    """Return up to two letters for a name without a picture."""
    words = name.replace("_", " ").replace("-", " ").split()
    return "".join(word[0] for word in words[:2]).upper() or "?"


def in_words(event: AuditEvent) -> str:
    """Say what happened, without who and when."""
    first = event.action == "alias.set" and event.changes.get("from") is None
    words = SENTENCES.get("alias.set first" if first else event.action)
    if words is None:
        return f"{event.action.replace('.', ' ').replace('_', ' ')} {event.object_label}"
    changes = event.changes
    sides = [_side(changes.get(side)) for side in ("from", "to")]
    if event.action == "namespace.synced":
        sides = [dict(NamespaceState.State.choices).get(side, side).lower() for side in sides]
    return format_html(
        words,
        object=event.object_label,
        alias=changes.get("alias", ""),
        before=sides[0],
        after=sides[1],
        person=changes.get("with", ""),
        needed=changes.get("needed", ""),
        holder=changes.get("holder", ""),
        prefix=changes.get("prefix", ""),
        pod=changes.get("pod", ""),
        fields=", ".join(_fields(changes)),
        files=_files(changes.get("count")),
    )


SENTENCES = {
    "model.registered": "registered <strong>{object}</strong>",
    "model.updated": "edited {fields} of <strong>{object}</strong>",
    "model.renamed": "renamed <strong>{before}</strong> to <strong>{after}</strong>",
    "model.archived": "archived <strong>{object}</strong>",
    "model.restored": "restored <strong>{object}</strong>",
    "model.deleted": "deleted <strong>{object}</strong>",
    "version.added": "added <strong>{object}</strong>",
    "version.updated": "edited {fields} of <strong>{object}</strong>",
    "version.deleted": "deleted <strong>{object}</strong>",
    "version.recalled": "recalled <strong>{object}</strong>: {after}",
    "version.recall_withdrawn": "withdrew the recall of <strong>{object}</strong>: {before}",
    "version.scanned": "scanned <strong>{object}</strong>: {after}",
    "file.deleted": "deleted {files} at <strong>{object}</strong>",
    "file.replaced": "replaced the file <strong>{object}</strong>",
    "alias.set": (
        "moved <strong>@{alias}</strong> of <strong>{object}</strong>: "
        "version {before} → version {after}"
    ),
    "alias.set first": (
        "set <strong>@{alias}</strong> of <strong>{object}</strong> to version {after}"
    ),
    "alias.deleted": (
        "deleted <strong>@{alias}</strong> of <strong>{object}</strong>, which was version {before}"
    ),
    "grant.given": "shared <strong>{object}</strong> with <strong>{person}</strong>",
    "grant.revoked": "stopped sharing <strong>{object}</strong> with <strong>{person}</strong>",
    "member.added": "let in <strong>{object}</strong> as {after}",
    "member.role_changed": "changed the role of <strong>{object}</strong>: {before} → {after}",
    "member.removed": "removed <strong>{object}</strong>, who was {before}",
    "robot.added": "made the robot <strong>{object}</strong> as {after}",
    "robot.role_changed": (
        "changed the role of the robot <strong>{object}</strong>: {before} → {after}"
    ),
    "robot.removed": "removed the robot <strong>{object}</strong>, which was {before}",
    "identity.added": (
        "let pods of the service account <strong>{object}</strong> sign in as {after}"
    ),
    "identity.role_changed": (
        "changed the role of the service account <strong>{object}</strong>: {before} → {after}"
    ),
    "identity.removed": "removed the service account <strong>{object}</strong>, which was {before}",
    "identity.trusted": "trusted the service account <strong>{object}</strong>, made anew",
    "identity.signed_in": "signed in from the pod <strong>{pod}</strong>",
    "identity.refused": (
        "refused the pod <strong>{pod}</strong>: its service account <strong>{object}</strong> is "
        "not the one that is trusted"
    ),
    "namespace.synced": (
        "looked at the namespace in the cluster <strong>{object}</strong>: {before} → {after}"
    ),
    "token.created": "made the token <strong>{object}</strong> ({prefix}…) of {holder}",
    "token.revoked": "revoked the token <strong>{object}</strong> ({prefix}…) of {holder}",
    "tenant.created": "created the team",
    "tenant.updated": "edited the team's {fields}",
    "tenant.suspended": "suspended the team",
    "tenant.resumed": "resumed the team",
    "access.denied": "was refused: {needed} was needed",
}


def _side(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else "none"


def _files(count: Any) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _fields(changes: dict[str, Any]) -> list[str]:
    after = changes.get("to")
    names = after if isinstance(after, dict) else {}
    return sorted({"size" if name == "custom_size" else name for name in names})
