"""The product's settings, with what only tests need: a fast password hash and a watch for N+1."""

import os

from bulkhead.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "zeal"]  # noqa: F405
# A page that asks the database once a row fails its test.
MIDDLEWARE = ["zeal.middleware.zeal_middleware", *MIDDLEWARE]  # noqa: F405
# Jinja2 says what it renders, so that ``response.context`` knows.
TEMPLATES[0]["OPTIONS"]["environment"] = "tests.support.rendering.watched_environment"  # type: ignore[index]  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Each process of a parallel run has a folder of its own; conftest makes and deletes it.
TEST_FILES = DATA_DIR / "test-artifacts" / str(os.getpid())  # noqa: F405
# Served from the source folders: no collected copy that could be stale.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": "models_registry.files.folder_store.FolderStorage",
        "OPTIONS": {"location": str(TEST_FILES)},
    },
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
ZEAL_RAISE = True
# Django reads a session once more when it deletes it; that is no list that grows.
ZEAL_ALLOWLIST = [{"model": "sessions.Session", "field": "get()"}]
