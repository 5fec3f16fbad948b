"""``manage.py sync_kubernetes``: tenants' namespaces as they are, against what they should be."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from tenants.clusters import Cluster
from tenants.kubernetes.sync.sync import Mode, Order, leave_broken_connection, sync_all
from tenants.management import lookup
from tenants.models import NamespaceState, Tenant

REPORT_SECONDS = 5
#: Maximum seconds between two rounds of a watch while rounds fail.
MAX_PAUSE_SECONDS = 600

State = NamespaceState.State
DRIFTED, FAILED, INTERRUPTED = 2, 1, 130

#: The mark before an object in the output, by its state.
MARKS = {
    "missing": "+",
    "created": "+",
    "drift": "~",
    "corrected": "~",
    "stale": "-",
    "pruned": "-",
}


class Command(BaseCommand):
    """Compare tenants' namespaces with what they should be, and correct them if asked to."""

    help = (
        "Compare the namespaces of all tenants, or of some, with what they should be. A plan only "
        "says what differs; observe also keeps it for the team's page; enforce corrects it. The "
        "exit code is 0 if all are in sync, 2 if one is not, 1 after an error. Let only one thing "
        "write to a cluster: where a GitOps tool applies the bundles, observe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose namespaces, where, and what may be done."""
        parser.add_argument(
            "--tenant", metavar="SLUG", nargs="+", action="extend", help="only these teams (all)"
        )
        parser.add_argument("--cluster", metavar="NAME", help="only this cluster (all)")
        parser.add_argument("--mode", choices=list(Mode), default=Mode.PLAN.value)
        parser.add_argument(
            "--prune",
            action="store_true",
            help="delete what Bulkhead made and needs no more; with --mode enforce",
        )
        parser.add_argument(
            "--watch", action="store_true", help="go on for ever, and print only what changes"
        )
        parser.add_argument(
            "--interval",
            type=int,
            default=60,
            metavar="SECONDS",
            help="between two rounds of a watch (60)",
        )
        parser.add_argument("--json", action="store_true", help="print JSON; a watch: by lines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sync once or for ever, and exit with the code that tells how it went."""
        if options["interval"] < 1:
            raise CommandError("--interval takes a number of seconds, 1 or more.")
        clusters = _clusters(options["cluster"])
        _tenants(options["tenant"])
        try:
            if options["watch"]:
                self._watch(clusters, options)
            states = list(self._round(clusters, options))
        except KeyboardInterrupt:
            self.stderr.write("Stopped.", style_func=str)
            sys.exit(0 if options["watch"] else INTERRUPTED)
        if options["json"]:
            self.stdout.write(json.dumps([as_json(state) for state in states], indent=2))
        if code := exit_code(states):
            sys.exit(code)

    def _watch(self, clusters: list[Cluster], options: dict[str, Any]) -> NoReturn:
        # Process 1 of a container ignores SIGTERM unless it has a handler.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        seen: dict[tuple[str, str], Any] = {}
        failed = 0
        while True:
            leave_broken_connection()
            try:
                states = list(self._round(clusters, options, seen))
                failed = failed + 1 if states and all(map(has_failed, states)) else 0
            except DatabaseError as error:
                leave_broken_connection()
                self.stderr.write(f"Bulkhead's database does not answer: {error}")
                failed += 1
            time.sleep(pause_after(failed, options["interval"]))

    def _round(
        self,
        clusters: list[Cluster],
        options: dict[str, Any],
        seen: dict[tuple[str, str], Any] | None = None,
    ) -> Iterator[NamespaceState]:
        """Sync each tenant in each cluster; print its state, or with ``seen`` only what is new."""
        tenants = _tenants(options["tenant"])
        if seen is None and not options["json"]:
            self.stdout.write(row("TEAM", "CLUSTER", "STATE", "OBJECTS"))
        total, reported = len(tenants) * len(clusters), time.monotonic()
        done = 0
        for cluster in clusters:
            order = Order(cluster, Mode(options["mode"]), options["prune"])
            for state in sync_all(tenants, order):
                done += 1
                if time.monotonic() - reported > REPORT_SECONDS:
                    reported = time.monotonic()
                    self.stderr.write(f"{done:,} of {total:,} namespaces", style_func=str)
                self._print(state, options["json"], seen)
                yield state

    def _print(
        self, state: NamespaceState, as_lines: bool, seen: dict[tuple[str, str], Any] | None
    ) -> None:
        if seen is not None:
            which, what = (state.tenant.slug, state.cluster), fingerprint(state)
            if seen.get(which) == what:
                return
            seen[which] = what
            if as_lines:
                self.stdout.write(json.dumps(as_json(state)))
        if not as_lines:
            for line in lines(state):
                self.stdout.write(line)


def _clusters(name: str | None) -> list[Cluster]:
    known = settings.KUBERNETES.clusters
    found = [cluster for cluster in known if name in (None, cluster.name)]
    if not found:
        names = ", ".join(cluster.name for cluster in known)
        raise CommandError(f"There is no cluster {name}; there is {names}.")
    return found


def _tenants(slugs: list[str] | None) -> list[Tenant]:
    return list(Tenant.objects.all()) if slugs is None else [lookup.team(slug) for slug in slugs]


def pause_after(failed: int, interval: int) -> int:
    """Return the seconds until the next round; they double with each failed round.

    It is never shorter than the interval.
    """
    return max(interval, min(interval << min(failed, 10), MAX_PAUSE_SECONDS))


def has_failed(state: NamespaceState) -> bool:
    """Tell whether a namespace could not be read, or only in part."""
    return state.state == State.ERROR


def exit_code(states: list[NamespaceState]) -> int:
    """Return the exit code: an error goes before a difference."""
    if any(map(has_failed, states)):
        return FAILED
    return DRIFTED if any(state.state != State.IN_SYNC for state in states) else 0


def fingerprint(state: NamespaceState) -> Any:
    """Return the part of a state whose change a watch reports: all but its time."""
    error = state.error.rpartition(" UTC: ")[2]
    return state.state, error, state.objects_found, state.workloads, state.warnings


def row(team: str, cluster: str, state: str, objects: str) -> str:
    """Return a line of the table."""
    return f"{team:<30} {cluster:<16} {state:<9} {objects}".rstrip()


def lines(state: NamespaceState) -> Iterator[str]:
    """Yield a state's row, and a line for each object, pod and warning that needs attention."""
    counts = Counter(entry["state"].replace("_", " ") for entry in state.objects_found)
    objects = ", ".join(f"{count} {what}" for what, count in counts.items())
    yield row(state.tenant.slug, state.cluster, state.get_state_display().lower(), objects)
    if has_failed(state):
        yield f"  ! {state.error}"
    for entry in state.objects_found:
        if entry["state"] != "in_sync":
            yield f"  {MARKS.get(entry['state'], '!')} {entry['state']} {described(entry)}"
    for problem in state.workloads:
        yield f"  ! {problem['kind']} {problem['name']}: {problem['problem']}"
    for warning in state.warnings:
        yield f"  ! {warning}"


def described(entry: dict[str, Any]) -> str:
    """Return an object's name with its differing fields, their managers and its detail."""
    fields = ", ".join(
        f"{field['field']} ({field['manager']})" if "manager" in field else field["field"]
        for field in entry.get("fields", ())
    )
    details = "; ".join(text for text in (fields, entry.get("detail", "")) if text)
    return f"{entry['kind']} {entry['name']}" + (f": {details}" if details else "")


def as_json(state: NamespaceState) -> dict[str, Any]:
    """Return a namespace's whole state."""
    return {
        "tenant": state.tenant.slug,
        "namespace": state.tenant.namespace,
        "cluster": state.cluster,
        "mode": state.mode,
        "state": str(state.state),
        "error": state.error,
        "version": state.version,
        "objects": state.objects_found,
        "quota": state.quota,
        "workloads": state.workloads,
        "warnings": state.warnings,
    }
