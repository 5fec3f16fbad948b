"""Copying a team's models to a stock MLflow server, with their files in runs of the team's own.

MLflow counts its versions up by itself and takes no version without a source, so placeholders use
up the numbers of deleted versions, and tags keep what its own fields could not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from models_registry.exchange.mlflow_client import (
    BadAnswer,
    MlflowModel,
    MlflowServer,
    MlflowVersion,
    RemoteProblem,
    ServerUnreachable,
)
from models_registry.exchange.steps import (
    KEPT_AS_TAGS,
    NO_SOURCE,
    AddModel,
    AddVersion,
    ChangeModel,
    ChangeVersion,
    ModelReport,
    NumberConflict,
    PointAlias,
    Step,
    amount,
    only_here,
    received,
    registered,
    steps,
)
from models_registry.files import artifacts
from models_registry.models import ArtifactFile, ModelVersion, RegisteredModel
from models_registry.validators import IS_PROMPT
from tenants.errors import Refusal
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant

#: The source of placeholders: versions that only use up a number at the MLflow server.
PLACEHOLDER = "bulkhead:/placeholder"
#: At most this many placeholders are made so that a version keeps its number.
MAX_GAP_NUMBERS = 1000

Files = list[ArtifactFile]


def _sent(files: Files) -> list[int]:
    return [file.blob.size for file in files]


def _missing(files: Files, there: Mapping[str, int]) -> Files:
    return [file for file in files if there.get(file.path) != file.blob.size]


class _ArtifactRuns:
    """Where a team's files lie at the server: in runs of an experiment of the team's own.

    MLflow takes files of its own proxy as a version's source only if they are a run's.
    """

    def __init__(self, server: MlflowServer, tenant: Tenant) -> None:
        self._server = server
        self._tenant = tenant

    @cached_property
    def _experiment(self) -> str:
        name = f"bulkhead/{self._tenant.slug}"
        return self._server.experiment(name, f"mlflow-artifacts:/{name}")

    def files(self, name: str) -> dict[int, Files]:
        """Return the files of the model's versions, by number."""
        found: dict[int, Files] = {}
        with tenant_scope(self._tenant):
            files = ArtifactFile.objects.filter(version__model__name=name)
            for file in files.select_related("blob", "version").order_by("path"):
                if file.version is not None:
                    found.setdefault(file.version.number, []).append(file)
        return found

    def put(
        self, name: str, version: MlflowVersion, files: Files, report: ModelReport
    ) -> MlflowVersion:
        """Send the files of a version, and return it with their address as its source."""
        label = f"{name} version {version.number}"
        tag = ("bulkhead.version", str(files[0].version_id))
        run = self._server.run_tagged(self._experiment, label, tag)
        folder = self._server.proxied(f"{run.artifact_uri}/model")
        if folder is None:
            raise RemoteProblem(f"the server hands no files out that are at {run.artifact_uri}")
        there = self._server.files(folder)
        missing = _missing(files, there)
        self.send(folder, missing, f"version {version.number}: ", report)
        return replace(version, source=f"{run.artifact_uri}/model", run_id=run.id)

    def send(self, folder: str, files: Files, prefix: str, report: ModelReport) -> None:
        """Send files, and look whether they are there then."""
        for file in files:
            try:
                chunks = artifacts.open_file(file)
                self._server.upload(f"{folder}/{file.path}", chunks, file.blob.size)
            except ServerUnreachable:
                raise
            except (RemoteProblem, Refusal) as problem:
                report.problems.append(f"{prefix}file {file.path}: {problem}")
        there = self._server.files(folder) if files else {}
        for file in _missing(files, there):
            report.problems.append(f"{prefix}file {file.path}: it is not there whole")


class Exporter:
    """Copies a team's models to a server; with ``dry_run`` it only tells what it would do."""

    def __init__(
        self, server: MlflowServer, tenant: Tenant, *, with_files: bool, dry_run: bool
    ) -> None:
        self._server = server
        self._tenant = tenant
        self._with_files = with_files
        self._dry_run = dry_run
        self._runs = _ArtifactRuns(server, tenant)

    def names(self) -> list[str]:
        """Return the names of the team's models, in order."""
        with tenant_scope(self._tenant):
            return sorted(RegisteredModel.objects.values_list("name", flat=True))

    def copy_all(
        self, names: Iterable[str], there: Mapping[str, MlflowModel]
    ) -> Iterator[ModelReport]:
        """Copy the models of these names; raises ServerUnreachable if the server goes away.

        ``there`` are the server's models by name, without their versions.
        """
        for name in names:
            with tenant_scope(self._tenant):
                wanted = registered(name)
            if wanted is not None:  # else it was deleted meanwhile
                yield self.copy(wanted, there.get(name))

    def copy(self, wanted: MlflowModel, there: MlflowModel | None) -> ModelReport:
        """Copy one model; raises ServerUnreachable if the server goes away."""
        report = ModelReport(self._tenant.slug, wanted.name)
        try:
            found = self._server.versions(there) if there else ()
        except ServerUnreachable:
            raise
        except RemoteProblem as problem:
            report.problems.append(str(problem))
            return report
        if there is None:
            report.outcome = "created"
        else:
            kept = [received(self._server, v) for v in found if v.source != PLACEHOLDER]
            there = replace(there, versions=tuple(kept))
            report.only_here.extend(only_here(wanted, there))
        files = self._runs.files(wanted.name) if self._with_files else {}
        sender = _Sender(self._server, wanted.name, found, self._runs, files, report)
        if self._carry_out(steps(wanted, there), sender, files, report):
            self._send_files(wanted.name, found, files, report)
            if not self._dry_run:
                sender.clear_placeholders()
        return report

    def _carry_out(
        self,
        todo: Iterable[Step],
        sender: "_Sender",
        files: Mapping[int, Files],
        report: ModelReport,
    ) -> bool:
        """Carry out the steps; tell whether the model is there now."""
        for step in todo:
            try:
                if isinstance(step, NumberConflict) or not self._dry_run:
                    sender.do(step)
            except ServerUnreachable:
                raise
            except RemoteProblem as problem:
                report.problems.append(f"{step}: {problem}")
                if isinstance(step, AddModel):
                    report.outcome = "left out"
                    return False
            else:
                report.changed(str(step))
                if isinstance(step, AddVersion) and step.number in files:
                    report.changed(f"{step}: {amount(_sent(files[step.number]))}")
        return True

    def _send_files(
        self,
        name: str,
        found: Iterable[MlflowVersion],
        files: Mapping[int, Files],
        report: ModelReport,
    ) -> None:
        """Send the files of versions that are there already, where they are not."""
        for version in found:
            if version.number not in files or version.source == PLACEHOLDER:
                continue
            prefix = f"version {version.number}: "
            try:
                uri = self._server.files_uri(name, version.number)
                folder = self._server.proxied(uri)
                there = {} if folder is None else self._server.files(folder)
                missing = _missing(files[version.number], there)
                if not missing:
                    continue
                # Only folders that an export made may be written to.
                if folder is None or KEPT_AS_TAGS["source"] not in version.tags:
                    raise RemoteProblem(
                        f"{len(missing):,} files are not at {uri}, and MLflow lets nobody change "
                        "where a version's files are"
                    )
                report.changed(f"{prefix}{amount(_sent(missing))}")
                if not self._dry_run:
                    self._runs.send(folder, missing, prefix, report)
            except ServerUnreachable:
                raise
            except RemoteProblem as problem:
                report.problems.append(f"{prefix}files: {problem}")


class _Sender:
    """Carries out the steps of one model at the server, which has the versions ``found``."""

    def __init__(
        self,
        server: MlflowServer,
        name: str,
        found: Sequence[MlflowVersion],
        runs: _ArtifactRuns,
        files: Mapping[int, Files],
        report: ModelReport,
    ) -> None:
        self._server = server
        self._name = name
        self._runs = runs
        self._files = files
        self._report = report
        self._last = found[-1].number if found else 0
        self._placeholders = [v.number for v in found if v.source == PLACEHOLDER]
        self._refused: int | None = None

    def do(self, step: Step) -> None:
        """Carry out one step; raises RemoteProblem where the server refuses."""
        match step:
            case AddModel(model):
                self._server.create_model(model.name, model.description, _mark(model.tags))
                self._tag(model.tags)
            case ChangeModel(description, tags):
                if description is not None:
                    self._server.describe_model(self._name, description)
                self._tag(tags)
            case AddVersion(version):
                self._add(version)
            case ChangeVersion(number, description, tags, stage, status):
                if description is not None:
                    self._server.describe_version(self._name, number, description)
                self._finish(number, tags, stage, status)
            case PointAlias(name, number):
                self._server.set_alias(self._name, name, number)
            case NumberConflict(_, names):
                raise RemoteProblem(
                    f"there it is another version, with another {' and '.join(names)}; it is left "
                    "as it is"
                )

    def _add(self, version: MlflowVersion) -> None:
        if self._refused is not None:
            raise RemoteProblem(
                f"it waits for version {self._refused}, since numbers there only go up"
            )
        if version.number <= self._last:
            raise RemoteProblem("the server has given its number before")
        self._use_up_numbers_before(version.number)
        sent, tags = _outgoing(self._server, version)
        files = self._files.get(version.number)
        try:
            if files:
                tags |= {
                    KEPT_AS_TAGS["source"]: version.source,
                    KEPT_AS_TAGS["run_id"]: version.run_id,
                }
                sent = self._runs.put(self._name, version, files, self._report)
            self._last = self._server.create_version(self._name, sent, tags)
        except RemoteProblem:
            self._refused = version.number
            raise
        if self._last != version.number:
            self._server.delete_version(self._name, self._last)
            raise RemoteProblem(f"the server has given its number before, and now {self._last}")
        status = version.status if version.status != ModelVersion.Status.READY else None
        stage = version.stage if version.stage != ModelVersion.Stage.NONE else None
        self._finish(version.number, version.tags, stage, status)

    def _use_up_numbers_before(self, number: int) -> None:
        """Have the server count on: a number that is missing here is a deleted version's.

        The placeholders stay until the version itself is there. After a crash in between, they
        are what tells how far the server has counted.
        """
        if number - self._last > MAX_GAP_NUMBERS:
            raise RemoteProblem(f"more than {MAX_GAP_NUMBERS:,} numbers before it are not in use")
        placeholder = MlflowVersion(
            0, source=PLACEHOLDER, description="Bulkhead's export deletes it."
        )
        while self._last + 1 < number:
            given = self._server.create_version(self._name, placeholder, {})
            if given <= self._last:
                raise BadAnswer(f"the server gave the number {given} twice")
            self._placeholders.append(given)
            self._last = given

    def clear_placeholders(self) -> None:
        """Delete the placeholders, but for the last one if a version still has to follow it."""
        for number in self._placeholders:
            if self._refused is None or number < self._last:
                what = f"version {number}, a placeholder"
                self._try(what, self._server.delete_version, self._name, number)

    def _finish(
        self, number: int, tags: Mapping[str, str], stage: str | None, status: str | None
    ) -> None:
        for key, value in tags.items():
            what = f"version {number}: tag {key}"
            self._try(what, self._server.tag_version, self._name, number, key, value)
        if stage is not None:
            what = f"version {number}: stage {stage}"
            self._try(what, self._server.set_stage, self._name, number, stage)
        if status is not None:
            self._report.problems.append(
                f"version {number}: status {status}: MLflow sets the status itself"
            )

    def _tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._try(f"tag {key}", self._server.tag_model, self._name, key, value)

    def _try(self, what: str, send: Callable[..., None], *values: Any) -> None:
        try:
            send(*values)
        except ServerUnreachable:
            raise
        except RemoteProblem as problem:
            self._report.problems.append(f"{what}: {problem}")


def _mark(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag that makes a prompt of a model or version, which is set from the beginning."""
    return {key: value for key, value in tags.items() if key == IS_PROMPT}


def _outgoing(server: MlflowServer, version: MlflowVersion) -> tuple[MlflowVersion, dict[str, str]]:
    """Return the version as it is sent, and the tags that it has from the beginning."""
    tags = _mark(version.tags)
    source = server.relative(version.source) or NO_SOURCE
    if version.logged_model_id and version.logged_model_id not in source:
        tags[KEPT_AS_TAGS["logged_model_id"]] = version.logged_model_id
    return replace(version, source=source), tags


def without_counterpart(tenant: Tenant) -> list[str]:
    """Name what the team's models have that MLflow's have not."""
    with tenant_scope(tenant):
        models = RegisteredModel.objects.all()
        versions = ModelVersion.objects.all()
        counts = {
            "model cards": models.exclude(card="").count(),
            "archived models": models.exclude(archived_at=None).count(),
            "versions with parameters or metrics": versions.exclude(params={}, metrics={}).count(),
        }
    return [f"{what}: {count:,}" for what, count in counts.items() if count]
