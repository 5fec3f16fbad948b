"""YAML that strangers wrote, read as texts, lists and dicts; what would cost too much is refused.

No tag is obeyed, so nothing in it can make an object; `no` stays no, and 3.10 does not become 3.1.
"""

from typing import Any

import yaml

from tenants.yaml_loader import LOADER


class BadYaml(Exception):
    """The text is no YAML, or none that is read here; the message is for people."""


def read(text: str, what: str, *, depth: int, first_line: int = 1) -> Any:
    """Return what ``text`` says; raises BadYaml, which names it as ``what``.

    ``depth`` is how many levels it may have; ``first_line`` is its line in the file it stands in.
    """
    try:
        _refuse_what_costs(text, what, depth)
        return yaml.load(text, Loader=LOADER)  # noqa: S506  # it makes texts only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadYaml(f"{what} is not valid YAML: {_reason(error, first_line)}.") from None


def _refuse_what_costs(text: str, what: str, depth: int) -> None:
    """Refuse what would make reading it cost minutes or gigabytes.

    The events come while the text is read, so what is nested too deeply is not read to its end.
    """
    level = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise BadYaml(f"{what} uses YAML aliases; write the values out.")
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > depth:
            raise BadYaml(f"{what} is nested more than {depth} levels deep.")


def _reason(error: Exception, first_line: int) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return "it could not be read"
    return f"{getattr(error, 'problem', None) or 'error'} in line {mark.line + first_line}"
