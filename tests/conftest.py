"""Fixtures for all tests. Django connects as the web role; the owner only makes the database."""

import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import setup_databases, teardown_databases
from hypothesis import settings as hypothesis
from moto.server import ThreadedMotoServer
from pytest_django import DjangoDbBlocker
from pytest_django.fixtures import Settings

from tenants.models import User
from tests.support.embedded import start_without_durability
from tests.support.files import use_store
from tests.support.kubernetes_stage import Stage, played, replayed, team_for
from tests.support.mlflow_clients import Python, Pythons, mlflow_imported
from tests.support.parallel import OneByOne
from tests.support.people import World, make_world, world_once
from tests.support.servers import Serve, servers

# Tests are not timed: the machines that run them are shared.
hypothesis.register_profile("untimed", deadline=None)
hypothesis.load_profile("untimed")

LIVE_CLUSTER = "--live-cluster"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs tests on a real cluster instead of on its recorded answers."""
    parser.addoption(LIVE_CLUSTER, action="store_true", help="use a real kube-apiserver")


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures of the real cluster where it is asked for, and listen to Ctrl-C.

    A shell lets what it starts in the background ignore Ctrl-C, and the servers that tests start
    and stop would inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption(LIVE_CLUSTER):
        config.pluginmanager.import_plugin("tests.live_cluster.fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne | None:
    """Share the tests out one by one where ``--dist loadscope`` asks for it."""
    return OneByOne(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that would leave its rows behind: only the owner can empty the tables."""
    for item in items:
        mark = item.get_closest_marker("django_db")
        if mark and mark.kwargs.get("transaction") and "owner" not in mark.kwargs["databases"]:
            hint = "use the mark `committed` of tests.support.people"
            raise pytest.UsageError(f"{item.nodeid}: {hint}.")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which level has not been run: nobody should take these tests for all there are."""
    if not config.getoption(LIVE_CLUSTER):
        terminalreporter.write_line(
            "Not among these: the tests on a real kube-apiserver (make test-kubernetes)."
        )


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """Make the test database as the owner and point the web role's connection at it.

    pytest-django would set up only the aliases that tests name, and then `default`, a mirror of
    `owner`, would be the real database. Each process of a parallel run has a database of its own.
    """
    if settings.EMBEDDED_DATABASE:
        start_without_durability(settings.DATA_DIR)
    with django_db_blocker.unblock():
        databases = setup_databases(
            0, interactive=False, aliases={"default": None, "owner": None}, serialized_aliases=set()
        )
        world_once()
    yield
    with django_db_blocker.unblock():
        connections.close_all()  # a database in use cannot be dropped
        teardown_databases(databases, 0)


@pytest.fixture(scope="session", autouse=True)
def folder_of_files() -> Iterator[None]:
    """Make the folder that the tests' files lie in, and delete it at the end."""
    folder = Path(settings.STORAGES["artifacts"]["OPTIONS"]["location"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def bucket_service() -> Iterator[str]:
    """Run an S3 service of our own, over real HTTP, and return its address."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    service = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    service.start()
    host, port = service.get_host_and_port()
    yield f"http://{host}:{port}"
    service.stop()


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    """Keep the files in an empty folder."""
    where = tmp_path / "artifacts"
    where.mkdir()
    use_store(settings, "folder_store.FolderStorage", location=str(where))
    return where


@pytest.fixture
def bucket(bucket_service: str, settings: Settings) -> Any:
    """Keep the files in an empty bucket, below a prefix; return boto3's bucket."""
    options = {"endpoint_url": bucket_service, "region_name": "eu-central-1"}
    keys = {"access_key": "key", "secret_key": "secret"}
    name = f"bucket-{uuid4()}"
    use_store(
        settings,
        "s3_store.BucketStorage",
        bucket_name=name,
        location="some/prefix",
        **options,
        **keys,
    )
    store: Any = storages["artifacts"]
    made = store.connection.Bucket(name)
    made.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return made


@pytest.fixture(params=["folder", "bucket"])
def either_store(request: pytest.FixtureRequest) -> str:
    """Run the test with either kind of store."""
    kind: str = request.param
    request.getfixturevalue(kind)
    return kind


@pytest.fixture
def world(db: None) -> World:
    """Two teams and everybody."""
    return make_world()


@pytest.fixture(scope="module")
def committed_world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Make two teams and everybody, for all tests of a file and for servers."""
    with django_db_blocker.unblock():
        try:
            yield make_world()
        finally:
            # Sequences are never set back: `make_world` gives rows their numbers again.
            call_command(
                "flush", database="owner", interactive=False, verbosity=0, reset_sequences=False
            )


@pytest.fixture
def as_(client: Client) -> Callable[[User | None], Client]:
    """Return a browser in which that person is signed in (None: nobody)."""

    def sign_in(user: User | None) -> Client:
        browser = Client()
        if user is not None and not isinstance(user, AnonymousUser):
            browser.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return browser

    return sign_in


@pytest.fixture(scope="session")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pythons]:
    """Return a function from a version of MLflow to the process that has imported it."""
    with ExitStack() as stack:

        @cache
        def python(version: str) -> Python:
            folder = tmp_path_factory.mktemp(f"mlflow-{version}")
            return stack.enter_context(mlflow_imported(version, folder))

        yield python


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers, each with the same data folder; whatever a test leaves of them is stopped."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture
def stage(request: pytest.FixtureRequest, db: None, tmp_path: Path) -> Iterator[Stage]:
    """Return a team and a cluster: a real one, or one that answers what a real one answered."""
    name = request.node.originalname
    if request.config.getoption(LIVE_CLUSTER):
        answer = request.getfixturevalue("answer_of_live")
        playing = played(name, team_for(name), tmp_path, answer)
    else:
        playing = replayed(name, team_for(name), tmp_path)
    with playing as stage:
        yield stage
