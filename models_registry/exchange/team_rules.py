"""Rules that say which team a model of an MLflow server comes to, read from a YAML file.

The first rule that fits a model decides. Everything that is wrong with a file is found before
anything is written, and named with its line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

import yaml

from models_registry.exchange.mlflow_client import MlflowModel, MlflowServer, ServerRefused
from tenants.models import Tenant
from tenants.text import printable


class RulesProblem(Exception):
    """The file of rules cannot be used; the message says where and why."""


@dataclass(frozen=True)
class TeamRule:
    """Models that fit all the patterns given belong to ``team``; in them `*` is any text."""

    team: str
    line: int
    name: str | None = None
    tag: Mapping[str, str] = field(default_factory=dict)
    experiment: str | None = None

    def fits(self, model: MlflowModel, experiment: Callable[[], str | None]) -> bool:
        """Tell whether it fits; ``experiment`` is asked for only if the rest does."""
        if self.name is not None and not fnmatchcase(model.name, self.name):
            return False
        for key, pattern in self.tag.items():
            if key not in model.tags or not fnmatchcase(model.tags[key], pattern):
                return False
        if self.experiment is None:
            return True
        name = experiment()
        return name is not None and fnmatchcase(name, self.experiment)


def parse_rules(document: str) -> list[TeamRule]:
    """Understand a YAML list of rules, or raise RulesProblem with the line."""
    try:
        node = yaml.compose(document, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise RulesProblem(f"{where}this is not YAML: {getattr(error, 'problem', error)}") from None
    except RecursionError:
        raise RulesProblem("this is no list of rules: it is nested too deeply") from None
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise RulesProblem("line 1: expected a list of rules, such as - {name: 'x-*', team: x}")
    return [_rule(item) for item in node.value]


RULE_KEYS = ("name", "tag", "experiment", "team")


def _rule(node: yaml.Node) -> TeamRule:
    entries = _entries(node)
    for key, value in entries.items():
        if key not in RULE_KEYS:
            raise _at(value, f"unknown key {key}; those known here are {', '.join(RULE_KEYS)}")
    if "team" not in entries:
        raise _at(node, "the key team is missing")
    tags = _entries(entries.pop("tag")) if "tag" in entries else {}
    return TeamRule(
        line=node.start_mark.line + 1,
        tag={key: _scalar(value) for key, value in tags.items()},
        **{key: _scalar(value) for key, value in entries.items()},
    )


def _entries(node: yaml.Node) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise _at(node, "expected keys and values")
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _scalar(key)
        if name in entries:
            raise _at(key, f"the key {name} is given twice")
        entries[name] = value
    return entries


def _scalar(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise _at(node, "expected text")
    return str(node.value)


def _at(node: yaml.Node, message: str) -> RulesProblem:
    return RulesProblem(printable(f"line {node.start_mark.line + 1}: {message}"))


class ByRule:
    """Finds the team of a model by the first rule that fits; raises RulesProblem at the start."""

    def __init__(self, server: MlflowServer, rules: Sequence[TeamRule]) -> None:
        self._server = server
        self._rules = rules
        self._experiments: dict[str, str] = {}
        slugs = {rule.team for rule in rules}
        self.teams = {tenant.slug: tenant for tenant in Tenant.objects.filter(slug__in=slugs)}
        for rule in rules:
            if rule.team not in self.teams:
                raise RulesProblem(f"line {rule.line}: there is no team {printable(rule.team)}")

    def __call__(self, model: MlflowModel) -> Tenant | None:
        """Return the model's team; None where no rule fits."""
        experiment = cache(lambda: self._experiment(model))
        for rule in self._rules:
            if rule.fits(model, experiment):
                return self.teams[rule.team]
        return None

    def _experiment(self, model: MlflowModel) -> str | None:
        """Return the name of the experiment in which the newest version's run is."""
        run_id = model.versions[-1].run_id if model.versions else ""
        if not run_id:
            return None
        try:
            experiment_id = self._server.run(run_id).experiment_id
            if experiment_id not in self._experiments:
                name = self._server.experiment_name(experiment_id)
                self._experiments[experiment_id] = name
            return self._experiments[experiment_id]
        except ServerRefused as problem:
            if problem.is_missing:
                return None
            raise
