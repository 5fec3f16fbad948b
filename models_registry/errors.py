"""What verbs raise beside ValidationError (a bad value) and PermissionDenied."""


class Conflict(Exception):
    """Somebody else changed the same thing meanwhile; nothing was written."""
