"""The store of files."""

from models_registry.models import ModelVersion, Upload


def sends_directly() -> bool:
    """Tell whether clients may exchange bytes with the store itself, by presigned addresses."""
    return False


def unfinished_under(path: str) -> Upload | None:
    """Return an upload under ``path`` of the upload area that has not ended."""
    return None


def copy_files(version: ModelVersion, folder: str, *, of: ModelVersion | None) -> int:
    """Give ``version`` the files under ``folder`` of the upload area, or of another version."""
    return 0
