"""Teams and installations whose bundles are rendered without a database."""

from dataclasses import replace
from uuid import UUID

from tenants.clusters import Installation
from tenants.kubernetes.bundle.objects import Team
from tenants.sizes import SIZES, SizeName

HERE = Installation()


BY_USERS = replace(HERE, binds_users=True, user_prefix="oidc:")


TEAM = Team(
    slug="team_gamma",
    id=UUID("7b0c2b1e-55f0-4a3c-9c5e-0f6a1f1d2c3b"),
    name="Gamma: “Vision & Speech”",
    namespace="bh-team-gamma",
    size=SIZES[SizeName.SMALL],
    members=(
        ("hugo", "admin"),
        ("gina", "contributor"),
        ("mona", "maintainer"),
        ("nils", "viewer"),
    ),
)


SUSPENDED = replace(TEAM, suspended=True)
