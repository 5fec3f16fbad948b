"""Where a path of the artifact proxy leads: to the upload area, or to the files of a version."""

from dataclasses import dataclass
from uuid import UUID

from tenants.workspaces import same_team

#: Nothing has this id: it stands for what cannot be one.
NOBODYS = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Place:
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


def place(path: str) -> Place:
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
    return Place(sent, path, version_id, team)


def as_id(name: str) -> UUID:
    """Return the id that is written just so: no other spelling of it leads anywhere."""
    try:
        found = UUID(name)
    except ValueError:
        return NOBODYS
    return found if str(found) == name else NOBODYS
