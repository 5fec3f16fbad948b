"""The settings of the private listener that API servers call: the product's, with less in them.

Nobody signs in there, so there are no sessions, no pages and no Django admin.
"""

from bulkhead.settings import *  # noqa: F403
from bulkhead.settings import DATABASES as SITES

INSTALLED_APPS = [
    "bulkhead",
    "tenants.apps.TenantsConfig",
    "models_registry.apps.ModelsRegistryConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "guardian",
]
MIDDLEWARE = ["bulkhead.middleware.RequestIdMiddleware"]
TEMPLATES = []
ROOT_URLCONF = "bulkhead.admission_urls"
WSGI_APPLICATION = "bulkhead.admission_wsgi.application"
# Callers are known by their certificate or their network; the Host header says nothing about them.
ALLOWED_HOSTS = ["*"]
# An API server stores objects of up to 3 MiB, and a review of an update holds the old one as well.
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024

# An API server waits 3 seconds for the webhook; if the database is away, answer 503 before that.
LIMITS = {"connect_timeout": 2, "tcp_user_timeout": 2000}
DATABASES = SITES | {
    "default": SITES["default"] | {"OPTIONS": SITES["default"]["OPTIONS"] | LIMITS},
}
