"""Paths of files: whose files a path of the artifact proxy means, and what lies below a folder."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from tenants.workspaces import same_team

#: An id that no row has. Parsing an invalid id returns it, so the look-up finds nothing and
#: answers 404.
NO_ROW_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ArtifactPath:
    """What a path means: whose version (None: the upload area's), and the path of files in it.

    ``team`` is what the path itself names as its team, '' for nothing; ``sent`` is all of it.
    """

    sent: str
    path: str
    version_id: UUID | None = None
    team: str = ""

    def is_of(self, slug: str) -> bool:
        """Tell whether the path can be meant for that team: it names it, or none."""
        return not self.team or same_team(self.team, slug)


def parse_path(path: str) -> ArtifactPath:
    """Return what ``path`` means, whether or not there is anything: each path means something."""
    sent = path
    team, version_id = "", None
    first, _, rest = path.partition("/")
    if first == "workspaces":
        team, _, path = rest.partition("/")
        team = team or "-"
        first, _, rest = path.partition("/")
    if first == "versions":
        name, _, path = rest.partition("/")
        version_id = as_id(name)
    return ArtifactPath(sent, path, version_id, team)


def bounds_below(folder: str) -> tuple[str, str]:
    """Return the bounds of all paths below ``folder``: from the first, up to and without the last.

    They are one range where paths are compared byte by byte, since `0` follows `/`.
    """
    return f"{folder}/", f"{folder}0"


def below(folder: str) -> Q:
    """Return the condition for the files below ``folder`` ('' for all)."""
    first, last = bounds_below(folder)
    return Q(path__gte=first, path__lt=last) if folder else Q()


def at_or_below(path: str) -> Q:
    """Return the condition for the file at ``path`` and for those below it ('' for all)."""
    return below(path) | Q(path=path) if path else Q()


def as_id(name: str) -> UUID:
    """Return the id that is written just so: no other spelling of it leads anywhere."""
    try:
        found = UUID(name)
    except ValueError:
        return NO_ROW_ID
    return found if str(found) == name else NO_ROW_ID
