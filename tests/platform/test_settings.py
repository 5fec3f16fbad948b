"""Settings from the environment: a missing or malformed variable stops the start and is named."""

import json
import os
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings

from tests.support import ROOT

DATABASE = "postgresql://somebody:hunter2@db.example/bulkhead"
OURS = ("DATABASE_", "BULKHEAD_", "DATA_DIR", "AWS_")
GIVEN = {"DATABASE_URL": DATABASE, "BULKHEAD_SECRET_KEY": "s" * 50}

SHOW = """
import json
from bulkhead import settings
print(json.dumps({name: getattr(settings, name) for name in dir(settings)
                  if name.isupper()}, default=str))
"""


def start(folder: Path, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Read the settings in a process of its own; None takes a variable away."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": "platform", "DATA_DIR": str(folder)}
    environment |= {name: value for name, value in (GIVEN | variables).items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def read(folder: Path, **variables: str | None) -> dict[str, Any]:
    """Return the settings of a start that must work."""
    started = start(folder, variables)
    assert started.returncode == 0, started.stderr
    settings: dict[str, Any] = json.loads(started.stdout)
    return settings


BAD: list[tuple[str, dict[str, Any]]] = [
    ("BULKHEAD_SECRET_KEY", {"BULKHEAD_SECRET_KEY": None}),
    ("BULKHEAD_SECRET_KEY", {"BULKHEAD_SECRET_KEY": ""}),
    ("BULKHEAD_SECRET_KEY_FILE", {"BULKHEAD_SECRET_KEY_FILE": "/dev/null"}),  # both are set
    (
        "BULKHEAD_SECRET_KEY_FILE",
        {"BULKHEAD_SECRET_KEY": None, "BULKHEAD_SECRET_KEY_FILE": "/nowhere/at/all"},
    ),
    (
        "BULKHEAD_SECRET_KEY_FILE",
        {"BULKHEAD_SECRET_KEY": None, "BULKHEAD_SECRET_KEY_FILE": "/dev/null"},
    ),
    ("DATABASE_URL_FILE", {"DATABASE_URL": None, "DATABASE_URL_FILE": "/nowhere/at/all"}),
    *(
        ("DATABASE_URL", {"DATABASE_URL": address})
        for address in (
            "",
            "nonsense",
            "postgresql://",
            "postgresql://db.example/bulkhead",
            "postgresql://somebody@db.example",
            "postgresql://somebody:hunter2@db.example/bulkhead?nonsense=1",
            "mysql://somebody:hunter2@db.example/bulkhead",
            "postgresql://somebody:hunter2@[db.example/bulkhead",
        )
    ),
    ("DATABASE_OWNER_URL", {"DATABASE_OWNER_URL": "mysql://somebody:hunter2@db.example/x"}),
    ("DATABASE_OWNER_URL", {"DATABASE_OWNER_URL": "postgresql://somebody@db.example"}),
    *(
        ("BULKHEAD_URL", {"BULKHEAD_URL": address})
        for address in ("", "nonsense", "ftp://x.example", "http://", "https:///x", "http://[x")
    ),
    *(
        ("BULKHEAD_TRUSTED_PROXIES", {"BULKHEAD_TRUSTED_PROXIES": number})
        for number in ("", "some", "-1", "1.5", "0x1")
    ),
    *(
        ("BULKHEAD_STORAGE", {"BULKHEAD_STORAGE": where})
        for where in (
            *("nowhere", "./var", "/nowhere/at/all", "/dev/null", "gs://bucket", "S3://bucket"),
            *(
                "s3://",
                "s3:///prefix",
                "s3://key:hunter2@bucket",
                "s3://Bucket",
                "s3://bucket/../x",
            ),
        )
    ),
    *(
        (name, {"BULKHEAD_STORAGE": "s3://bucket"} | variables)
        for name, variables in (
            ("AWS_ENDPOINT_URL", {"AWS_ENDPOINT_URL": "key:hunter2@minio"}),
            ("AWS_ENDPOINT_URL_S3", {"AWS_ENDPOINT_URL_S3": "minio:9000"}),
            ("AWS_SECRET_ACCESS_KEY", {"AWS_SECRET_ACCESS_KEY": ""}),
            ("AWS_SECRET_ACCESS_KEY_FILE", {"AWS_SECRET_ACCESS_KEY_FILE": "/nowhere/at/all"}),
        )
    ),
]


def test_what_is_missing_or_malformed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L28: the sentence names the variable, and says nothing of a password in its value."""
    for name, variables in BAD:
        with monkeypatch.context() as environment:
            for variable in [name for name in os.environ if name.startswith(OURS)]:
                environment.delenv(variable)
            for variable, value in ({"DATA_DIR": str(tmp_path)} | GIVEN | variables).items():
                if value is not None:
                    environment.setenv(variable, value)
            with pytest.raises(ImproperlyConfigured) as refusal:
                runpy.run_path(str(ROOT / "platform" / "bulkhead" / "settings.py"))
        assert name in str(refusal.value), variables
        assert "hunter2" not in str(refusal.value), variables


def test_a_wrong_database_address_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    started = start(tmp_path, {"DATABASE_URL": "mysql://somebody:hunter2@db.example/bulkhead"})
    assert started.returncode != 0
    assert started.stderr.strip().endswith("DATABASE_URL is not a PostgreSQL address.")
    assert "hunter2" not in started.stderr


def test_a_secret_is_read_from_the_file_that_its_variable_names(tmp_path: Path) -> None:
    key, url = tmp_path / "key", tmp_path / "url"
    key.write_text("from a file\n")
    url.write_text(DATABASE)
    settings = read(
        tmp_path,
        BULKHEAD_SECRET_KEY=None,
        BULKHEAD_SECRET_KEY_FILE=str(key),
        DATABASE_URL=None,
        DATABASE_URL_FILE=str(url),
    )
    assert settings["SECRET_KEY"] == "from a file"
    database = settings["DATABASES"]["default"]
    assert (database["USER"], database["PASSWORD"], database["NAME"], database["HOST"]) == (
        "somebody",
        "hunter2",
        "bulkhead",
        "db.example",
    )


def test_a_machine_with_its_own_database_makes_and_keeps_its_key(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    keys = {
        read(folder, DATABASE_URL=None, BULKHEAD_SECRET_KEY=None)["SECRET_KEY"] for _ in range(2)
    }
    assert len(keys) == 1
    assert len(keys.pop()) >= 50
    assert stat.S_IMODE((folder / "secret-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_files_lie_in_the_data_folder_in_another_one_or_in_a_bucket(tmp_path: Path) -> None:
    own = read(tmp_path)["STORAGES"]["artifacts"]["OPTIONS"]
    assert own == {"location": str(tmp_path / "artifacts")}
    assert stat.S_IMODE((tmp_path / "artifacts").stat().st_mode) == 0o700
    other = tmp_path / "other"
    other.mkdir()
    named = read(tmp_path, BULKHEAD_STORAGE=str(other))["STORAGES"]["artifacts"]["OPTIONS"]
    assert named == {"location": str(other)}
    key = tmp_path / "key"
    key.write_text("hunter2\n")
    bucket = read(
        tmp_path,
        BULKHEAD_STORAGE="s3://models.example/some/prefix/",
        AWS_ENDPOINT_URL="http://minio:9000",
        AWS_DEFAULT_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY_FILE=str(key),
    )["STORAGES"]["artifacts"]
    assert bucket["BACKEND"] == "models_registry.files.s3_store.BucketStorage"
    assert bucket["OPTIONS"] == {
        "bucket_name": "models.example",
        "location": "some/prefix",
        "endpoint_url": "http://minio:9000",
        "region_name": "eu-central-1",
        "access_key": "somebody",
        "secret_key": "hunter2",
        "security_token": None,
    }
    plain = read(tmp_path, BULKHEAD_STORAGE="s3://models")["STORAGES"]["artifacts"]["OPTIONS"]
    assert (plain["location"], plain["endpoint_url"], plain["access_key"]) == ("", None, None)


def test_an_https_address_switches_on_what_only_https_can_have(tmp_path: Path) -> None:
    plain = read(tmp_path)
    secure = read(tmp_path, BULKHEAD_URL="https://models.example", BULKHEAD_TRUSTED_PROXIES="1")
    for name in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT"):
        assert (plain[name], secure[name]) == (False, True), name
    assert plain["SECURE_HSTS_SECONDS"] == 0
    assert secure["SECURE_HSTS_SECONDS"] >= 31_536_000
    assert "models.example" in secure["ALLOWED_HOSTS"]
    assert secure["CSRF_TRUSTED_ORIGINS"] == ["https://models.example"]
    assert secure["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]
    assert read(tmp_path, BULKHEAD_URL="HTTPS://models.example")["SESSION_COOKIE_SECURE"]
    # Without a proxy in front, a client could say that it came by HTTPS.
    assert "SECURE_PROXY_SSL_HEADER" not in plain
    for settings in (plain, secure):
        assert settings["DEBUG"] is False
        assert "*" not in settings["ALLOWED_HOSTS"]


@override_settings(
    SECURE_HSTS_SECONDS=31_536_000, SECURE_SSL_REDIRECT=True, CSRF_COOKIE_SECURE=True
)
def test_over_https_the_browser_is_told_to_stay_there(db: None) -> None:
    page = Client().get("/sign-in/", secure=True)
    assert page.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert page.cookies["csrftoken"]["secure"]
    moved = Client().get("/sign-in/")
    assert (moved.status_code, moved["Location"]) == (301, "https://testserver/sign-in/")
    # A probe inside the machine speaks plain HTTP.
    assert Client().get("/healthz").status_code == 200


def test_a_host_that_is_not_ours_is_refused(db: None) -> None:
    """A page's links and redirects must not be built from what a client says."""
    assert Client(headers={"host": "evil.example"}).get("/sign-in/").status_code == 400
