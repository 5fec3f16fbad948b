"""How MLflow's clients write a team: as a workspace, whose name holds no underscore."""


def workspace_name(slug: str) -> str:
    """Return the team's name as MLflow's clients take it: they know no underscores."""
    return slug.replace("_", "-")


def same_team(name: str, slug: str) -> bool:
    """Tell whether ``name`` is how a client may write ``slug``."""
    return workspace_name(name) == workspace_name(slug)
