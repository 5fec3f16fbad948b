"""The shape of a team's addresses, ``/t/<team>/…``: built and read here, and nowhere else."""

import re
from typing import NamedTuple

from django.conf import settings

#: How the patterns of a team's pages begin in ``urls.py``.
TEAM = "t/<str:tenant>/"

_PATH = re.compile(r"/t/([^/]*)/(.*)", re.DOTALL)


class TeamPath(NamedTuple):
    """A path below a team: the slug that it names, and what follows ``/t/<slug>/``.

    No team need have that slug, nor need it have a slug's form.
    """

    slug: str
    rest: str


def team_path(slug: str, rest: str = "") -> str:
    """Return the path of the team's own address, and of what is below it."""
    return f"/t/{slug}/{rest}"


def read_team_path(path: str) -> TeamPath | None:
    """Return what a path names, None for one that is not below a team; ``path`` is decoded."""
    found = _PATH.fullmatch(path)
    return TeamPath(found[1], found[2]) if found else None


def team_address(slug: str, site: str | None = None) -> str:
    """Return the whole address of the team, as MLflow's clients take it for a tracking URI.

    It ends without a slash; ``site`` is the address of this site, if not that of the settings.
    """
    return f"{settings.SITE_URL if site is None else site}{team_path(slug).rstrip('/')}"
