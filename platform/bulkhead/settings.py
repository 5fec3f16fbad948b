"""Django's settings, all of them; what differs between installations comes from the environment.

docs/operations.md lists the variables. A secret may stand in the file that ``NAME_FILE`` names.
"""

import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from bulkhead import env
from tenants.clusters import Installation, read_clusters

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / "var"))).expanduser().resolve()


def kept_secret(path: Path) -> str:
    """Return the secret in ``path``, made on first use and readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    value = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return value


def database(variable: str, url: str) -> dict[str, Any]:
    """Return Django's description of the PostgreSQL database that ``url`` names."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not "from error": its message repeats the address, which holds the password.
        raise ImproperlyConfigured(f"{variable} is not a PostgreSQL address.") from None
    named = {key: str(parts.pop(key, "")) for key in ("user", "password", "host", "port", "dbname")}
    for key in ("user", "dbname"):
        if not named[key]:
            raise ImproperlyConfigured(f"{variable} names no {key}.")
    return {
        "ENGINE": "bulkhead.postgresql",
        "NAME": named["dbname"],
        "USER": named["user"],
        "PASSWORD": named["password"],
        "HOST": named["host"],
        "PORT": named["port"],
        "OPTIONS": parts,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # PgBouncer's transaction pooling
    }


def artifacts_storage(where: str) -> dict[str, Any]:
    """Return Django's description of the store of files: a folder of ours, one named, a bucket."""
    if where.startswith("s3://"):
        return {"BACKEND": "models_registry.files.s3_store.BucketStorage", "OPTIONS": bucket(where)}
    if not where:
        folder = DATA_DIR / "artifacts"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        folder = Path(where)
        # Never made here: it may be the mount point of a disk that is not mounted.
        if not folder.is_absolute() or not folder.is_dir():
            raise ImproperlyConfigured(
                "BULKHEAD_STORAGE is neither s3://bucket/prefix nor a folder that is there, written"
                " from / on."
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ImproperlyConfigured(f"BULKHEAD_STORAGE: {folder} cannot be written to.")
    return {
        "BACKEND": "models_registry.files.folder_store.FolderStorage",
        "OPTIONS": {"location": str(folder)},
    }


def bucket(where: str) -> dict[str, Any]:
    """Return what django-storages needs to know of a bucket; the rest, boto3 finds by itself."""
    name, _, prefix = where.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise ImproperlyConfigured("BULKHEAD_STORAGE names no bucket: write s3://bucket/prefix.")
    if prefix and any(part in {"", ".", ".."} for part in prefix.split("/")):
        raise ImproperlyConfigured("BULKHEAD_STORAGE has a prefix that is no path.")
    endpoint = next((v for v in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if env.text(v, "")), "")
    if endpoint and not re.match(r"https?://[^/]", env.text(endpoint)):
        raise ImproperlyConfigured(f"{endpoint} is not an http or https address.")
    return {
        "bucket_name": name,
        "location": prefix,
        "endpoint_url": env.text(endpoint) if endpoint else None,
        "region_name": env.text("AWS_REGION", "") or env.text("AWS_DEFAULT_REGION", "") or None,
        "access_key": env.secret("AWS_ACCESS_KEY_ID"),
        "secret_key": env.secret("AWS_SECRET_ACCESS_KEY"),
        "security_token": env.secret("AWS_SESSION_TOKEN"),
    }


DEBUG = False
WEB_URL = env.secret("DATABASE_URL")
OWNER_URL = env.secret("DATABASE_OWNER_URL")
EMBEDDED_DATABASE = WEB_URL is None

PORT = env.integer("PORT", 8000, minimum=1)
SITE_URL = env.text("BULKHEAD_URL", f"http://127.0.0.1:{PORT}").rstrip("/")
try:
    SITE = urlsplit(SITE_URL)
except ValueError:  # brackets without an IPv6 address in them
    SITE = urlsplit("")
if SITE.scheme not in {"http", "https"} or not SITE.hostname:
    raise ImproperlyConfigured(f"BULKHEAD_URL={SITE_URL!r} is not an http or https address.")
HTTPS = SITE.scheme == "https"

# A key is generated only beside the embedded database, on a single machine: of several machines
# each would sign with its own, and a session would end whenever another machine answers.
SECRET_KEY = env.secret("BULKHEAD_SECRET_KEY") or ""
if not SECRET_KEY:
    if not EMBEDDED_DATABASE:
        raise ImproperlyConfigured("BULKHEAD_SECRET_KEY is not set.")
    SECRET_KEY = kept_secret(DATA_DIR / "secret-key")

ALLOWED_HOSTS = env.words("BULKHEAD_HOSTS", "127.0.0.1,localhost,[::1]")
ALLOWED_HOSTS.append(f"[{SITE.hostname}]" if ":" in SITE.hostname else SITE.hostname)
CSRF_TRUSTED_ORIGINS = [SITE_URL]

# The embedded server is started when a connection is first opened; see bulkhead.postgresql.
EMBEDDED_URL = "postgresql://{}@/bulkhead"
DATABASES = {
    "default": database("DATABASE_URL", WEB_URL or EMBEDDED_URL.format("bulkhead_web")),
    "owner": database(
        "DATABASE_OWNER_URL", OWNER_URL or WEB_URL or EMBEDDED_URL.format("bulkhead_owner")
    ),
}
# Tests go through the web role too: the owner makes the test database, `default` reads it.
DATABASES["default"]["TEST"] = {"MIRROR": "owner"}
DATABASES["owner"]["TEST"] = {"DEPENDENCIES": []}
# Off for a pooler without prepared statements (PgBouncer before 1.22, or with
# max_prepared_statements 0).
PREPARE_STATEMENTS = env.flag("BULKHEAD_PREPARE_STATEMENTS", True)

INSTALLED_APPS = [
    "bulkhead",
    "tenants.apps.TenantsConfig",
    "models_registry.apps.ModelsRegistryConfig",
    "tenants.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "django_htmx",
    "guardian",
]

MIDDLEWARE = [
    "bulkhead.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "tenants.api.ApiMiddleware",  # answers the API; nothing below is asked for it
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "bulkhead.middleware.NoStoreMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tenants.middleware.TenantMiddleware",  # last: the scope and its transaction wrap the view only
]

ROOT_URLCONF = "bulkhead.urls"
WSGI_APPLICATION = "bulkhead.wsgi.application"
#: URLconfs of private listeners, never served by the site; the system checks cover them too.
PRIVATE_URLCONFS = ["bulkhead.admission_urls"]

CONTEXT_PROCESSORS = [
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
    "tenants.context.team",
]
TEMPLATES = [
    {
        # Our own pages.
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "environment": "bulkhead.jinja.environment",
            "context_processors": [*CONTEXT_PROCESSORS, "bulkhead.jinja.csrf"],
        },
    },
    {
        # The pages of Django's admin, and what we change in them. Nothing of ours has their names.
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates" / "django"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                *CONTEXT_PROCESSORS,
            ],
        },
    },
]

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "allauth.account.auth_backends.AuthenticationBackend",
    "tenants.access.RoleBackend",
    "tenants.access.GrantBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"

ACCOUNT_ADAPTER = "tenants.identity.sign_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_RATE_LIMITS = {
    "login": "60/m/ip",
    "login_failed": "20/m/ip,10/5m/key",
    "bad_token": "60/m/ip",  # requests to the API without a valid one
}
ALLAUTH_TRUSTED_PROXY_COUNT = env.integer("BULKHEAD_TRUSTED_PROXIES", 0)

# Grants are rows of ModelUserGrant and ModelGroupGrant; there is no anonymous account.
ANONYMOUS_USER_NAME = None
GUARDIAN_AUTO_PREFETCH = False
GUARDIAN_RAISE_403 = True
SILENCED_SYSTEM_CHECKS = ["guardian.W001"]  # it looks for guardian's own class; ours extends it

# In the database, so that all processes count failed sign-ins together; holds no tenant data.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "bulkhead_cache",
        # Large: an attacker with many addresses must not evict the counts of the others.
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

SESSION_COOKIE_AGE = 60 * 60 * 12
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if HTTPS else 0
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
if ALLAUTH_TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "platform" / "static"]
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    "artifacts": artifacts_storage(env.text("BULKHEAD_STORAGE", "")),
}

# What says whether a workload may use the model that it names; `tenants` knows no registry.
MODEL_REFERENCES = "models_registry.pod_models.verdict_on"

# How tenants' namespaces are rendered; the defaults are Installation's own.
DEFAULTS = Installation()
KUBERNETES = Installation(
    prefix=env.text("BULKHEAD_LABEL_PREFIX", DEFAULTS.prefix),
    registry_namespace=env.text("BULKHEAD_NAMESPACE", DEFAULTS.registry_namespace),
    gateway_namespace=env.text("BULKHEAD_GATEWAY_NAMESPACE", DEFAULTS.gateway_namespace),
    dns_namespace=env.text("BULKHEAD_DNS_NAMESPACE", DEFAULTS.dns_namespace),
    registry_port=env.integer("BULKHEAD_SERVICE_PORT", DEFAULTS.registry_port, minimum=1),
    serving_port=env.integer("BULKHEAD_SERVING_PORT", DEFAULTS.serving_port, minimum=1),
    pod_security=env.text("BULKHEAD_POD_SECURITY", DEFAULTS.pod_security),
    binds_users=env.flag("BULKHEAD_BIND_USERS", DEFAULTS.binds_users),
    user_prefix=env.text("BULKHEAD_USER_PREFIX", ""),
    group_prefix=env.text("BULKHEAD_GROUP_PREFIX", ""),
    audience=env.text("BULKHEAD_AUDIENCE", "") or DEFAULTS.audience,
    clusters=read_clusters(env.text("BULKHEAD_CLUSTERS", "")),
)

LANGUAGE_CODE = "en"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        # Its warnings contain the path of each 404, which may hold a model's name.
        "django.request": {"level": "ERROR"},
        # Its warnings quote malformed answers of other servers.
        "urllib3.connection": {"level": "ERROR"},
    },
}
