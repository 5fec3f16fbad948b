"""The store of files, in a folder and in a bucket: whole or not at all, once in each team."""

import hashlib
import resource
import stat
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_registry import registry
from models_registry.errors import BrokenUpload, Conflict, OutOfSpace, StoreUnavailable
from models_registry.files import artifacts, folder_store
from models_registry.files.artifacts import Entry
from models_registry.models import ArtifactFile, Blob, ModelVersion, RegisteredModel, Upload
from models_registry.validators import validate_path
from tenants.isolation.scope import tenant_scope
from tests.support.files import BAD_PATHS, add, content, count, keys, pending_version, use_store
from tests.support.people import World, committed, make_world
from tests.support.threads import at_once, wait_until_somebody_waits

# --- adding --------------------------------------------------------------------------------


@pytest.mark.usefixtures("either_store")
@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_what_goes_in_comes_out(world: World, size: int) -> None:
    whole = bytes(number % 251 for number in range(size))
    file = add(world.alpha, "dir/été.bin", whole)
    assert (file.blob.size, file.blob.digest) == (size, hashlib.sha256(whole).hexdigest())
    assert content(world.alpha, "dir/été.bin") == whole
    assert keys() == [file.blob.key]
    assert count(world.alpha) == (1, 1, 0)


@pytest.mark.usefixtures("either_store")
def test_more_than_one_part_of_a_bucket_comes_out_too(world: World) -> None:
    piece = bytes(range(256)) * 4096
    file = artifacts.add_file(partial(tenant_scope, world.alpha), None, "big", [piece] * 21)
    assert b"".join(artifacts.open_file(file)) == piece * 21
    assert b"".join(artifacts.open_file(file, 2**20 - 2, 2**20 + 3)) == b"\xfe\xff\x00\x01\x02"


@pytest.mark.usefixtures("either_store")
def test_equal_bytes_are_kept_once_in_a_team_and_never_shared_with_another(world: World) -> None:
    first = add(world.alpha, "a", b"the same")
    second = add(world.alpha, "b", b"the same")
    others = add(world.gamma, "a", b"the same")
    assert first.blob == second.blob != others.blob
    assert keys() == sorted([first.blob.key, others.blob.key])
    assert str(world.gamma.pk) in others.blob.key
    assert count(world.alpha) == (2, 1, 0)


@pytest.mark.usefixtures("either_store")
def test_bytes_that_got_lost_are_put_back_by_the_next_upload(world: World) -> None:
    file = add(world.alpha, "a", b"the same")
    artifacts.store().discard(file.blob.key)
    with pytest.raises(StoreUnavailable):
        b"".join(artifacts.open_file(file))
    add(world.alpha, "b", b"the same")
    assert content(world.alpha, "a") == b"the same"


@pytest.mark.usefixtures("folder")
def test_a_path_that_is_there_is_replaced(world: World) -> None:
    first = add(world.alpha, "a", b"old")
    version = pending_version(world.alpha)
    add(world.alpha, "a", b"old", version)
    second = add(world.alpha, "a", b"new")
    add(world.alpha, "a", b"newer", version)
    assert first.pk == second.pk
    assert second.created_at > first.created_at
    assert content(world.alpha, "a") == b"new"
    assert content(world.alpha, "a", version) == b"newer"


@pytest.mark.usefixtures("folder")
def test_a_version_takes_files_only_until_it_is_complete(world: World) -> None:
    version = pending_version(world.alpha)
    add(world.alpha, "a", b"1", version)
    with tenant_scope(world.alpha):
        ModelVersion.objects.filter(pk=version.pk).update(status="READY")
        with pytest.raises(ValidationError, match="complete"):
            artifacts.delete_under(version, "a")
    with pytest.raises(ValidationError, match="complete"):
        add(world.alpha, "b", b"2", version)
    assert count(world.alpha) == (1, 1, 0)


@pytest.mark.usefixtures("folder")
def test_a_version_that_becomes_complete_meanwhile_takes_nothing(world: World) -> None:
    version = pending_version(world.alpha)

    def chunks() -> Iterator[bytes]:
        yield b"some"
        with tenant_scope(world.alpha):
            ModelVersion.objects.filter(pk=version.pk).update(status="READY")

    with pytest.raises(ValidationError, match="complete"):
        artifacts.add_file(partial(tenant_scope, world.alpha), version, "a", chunks())
    assert count(world.alpha) == (0, 0, 0)


@pytest.mark.usefixtures("folder")
def test_another_teams_version_is_no_version_here(world: World) -> None:
    version = pending_version(world.gamma)
    with pytest.raises(ValidationError, match="gone"):
        add(world.alpha, "a", b"1", version)
    assert count(world.alpha) == count(world.gamma) == (0, 0, 0)


@pytest.mark.usefixtures("folder")
def test_a_path_is_a_file_or_a_folder_and_never_both(world: World) -> None:
    add(world.alpha, "a/b", b"1")
    with pytest.raises(ValidationError, match="'a' is a folder"):
        add(world.alpha, "a", b"2")
    with pytest.raises(ValidationError, match="'a/b' is a file"):
        add(world.alpha, "a/b/c/d", b"2")
    add(world.alpha, "a-b", b"3")
    add(world.alpha, "ab/c", b"3")


# --- failing -------------------------------------------------------------------------------


class Stop(Exception):
    """The sender went away."""


def breaking_off() -> Iterator[bytes]:
    """Send 20 MB, more than one part of a bucket, and go away."""
    for _ in range(20):
        yield bytes(1024 * 1024)
    raise Stop


@pytest.mark.usefixtures("either_store")
def test_an_upload_that_breaks_off_leaves_nothing(world: World) -> None:
    with pytest.raises(Stop):
        artifacts.add_file(
            partial(tenant_scope, world.alpha, world.carol), None, "a", breaking_off()
        )
    with pytest.raises(BrokenUpload, match="3 bytes arrived of 4"):
        artifacts.add_file(
            partial(tenant_scope, world.alpha, world.carol), None, "a", [b"abc"], length=4
        )
    with pytest.raises(BrokenUpload, match="5 bytes arrived of 4"):
        artifacts.add_file(
            partial(tenant_scope, world.alpha, world.carol), None, "a", [b"abcde"], length=4
        )
    with pytest.raises(BrokenUpload, match="SHA-256"):
        artifacts.add_file(
            partial(tenant_scope, world.alpha, world.carol), None, "a", [b"abc"], digest="0" * 64
        )
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []
    digest = hashlib.sha256(b"abc").hexdigest()
    artifacts.add_file(
        partial(tenant_scope, world.alpha, world.carol),
        None,
        "a",
        [b"abc"],
        length=3,
        digest=digest,
    )


@pytest.mark.usefixtures("either_store")
def test_an_upload_is_marked_as_alive_and_ends_when_it_was_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SEEN_SECONDS", 0)
    seen: list[datetime] = []

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"some"
            with tenant_scope(world.alpha):
                upload = Upload.objects.get()
                assert (upload.user, upload.path) == (world.carol, "a")
                seen.append(upload.seen_at)
        with tenant_scope(world.alpha):
            Upload.objects.all().delete()
        yield b"more"

    with pytest.raises(Conflict, match="given up"):
        artifacts.add_file(partial(tenant_scope, world.alpha, world.carol), None, "a", chunks())
    assert seen[0] < seen[1] < seen[2]
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []


@pytest.mark.usefixtures("folder")
def test_a_full_disk_is_said_and_nothing_stays(world: World) -> None:
    with pytest.raises(OutOfSpace):
        artifacts.add_file(
            partial(tenant_scope, world.alpha), None, "a", [b"never read"], length=10**18
        )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 1024 * 1024, before[1]))
    try:
        for chunks in (breaking_off(), [bytes(10)] * (600 * 1024)):
            with pytest.raises(OutOfSpace):
                artifacts.add_file(partial(tenant_scope, world.alpha), None, "a", chunks)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []


@pytest.mark.usefixtures("folder")
def test_a_disk_that_fills_up_while_bytes_arrive_keeps_its_reserve(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for chunk in breaking_off():
            sent += len(chunk)
            if sent > 4 * len(chunk):  # others write as well, and now too little is free
                monkeypatch.setattr(folder_store, "RESERVED_BYTES", 10**18)
            yield chunk

    with pytest.raises(OutOfSpace):
        artifacts.add_file(
            partial(tenant_scope, world.alpha), None, "a", chunks(), length=20 * 1024 * 1024
        )
    assert 4 * 1024 * 1024 < sent <= 4 * 1024 * 1024 + folder_store.SPACE_CHECK_BYTES
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []


@pytest.mark.usefixtures("either_store")
def test_whoever_sends_more_than_announced_is_cut_off_at_once(world: World) -> None:
    endless = iter(lambda: b"0123456789", b"")
    with pytest.raises(BrokenUpload, match="20 bytes arrived of 10"):
        artifacts.add_file(partial(tenant_scope, world.alpha), None, "a", endless, length=10)
    assert count(world.alpha) == (0, 0, 0)
    assert keys() == []


def test_without_its_folder_nothing_is_stored_elsewhere(world: World, folder: Path) -> None:
    file = add(world.alpha, "a", b"1")
    folder.rename(folder.with_name("unmounted"))
    for act in (
        lambda: add(world.alpha, "b", b"2"),
        lambda: artifacts.open_file(file),
        lambda: artifacts.store().size_of(file.blob.key),
        keys,
    ):
        with pytest.raises(StoreUnavailable):
            act()
    assert not folder.exists()
    assert count(world.alpha)[0] == 1


def test_without_its_bucket_nothing_is_stored(world: World, bucket: Any) -> None:
    file = add(world.alpha, "a", b"1")
    bucket.objects.all().delete()
    bucket.delete()
    for act in (lambda: add(world.alpha, "b", b"2"), lambda: artifacts.open_file(file), keys):
        with pytest.raises(StoreUnavailable):
            act()


def test_a_whole_bucket_may_be_ours_too(
    world: World, bucket: Any, bucket_service: str, settings: Settings
) -> None:
    """Without a prefix the keys begin at the bucket's own root."""
    options = settings.STORAGES["artifacts"]["OPTIONS"] | {"location": ""}
    use_store(settings, "s3_store.BucketStorage", **options)
    file = add(world.alpha, "a", b"1")
    assert keys() == [file.blob.key] == [found.key for found in bucket.objects.all()]
    assert content(world.alpha, "a") == b"1"


def test_only_the_owner_of_the_process_may_read_the_files(world: World, folder: Path) -> None:
    add(world.alpha, "a", b"1")
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


# --- at the same time ----------------------------------------------------------------------


@committed
@pytest.mark.usefixtures("either_store")
@pytest.mark.parametrize("paths", [["same"] * 4, ["a", "b", "c", "d"]], ids=["path", "digest"])
def test_equal_files_at_the_same_time(transactional_db: None, paths: list[str]) -> None:
    world = make_world()
    for file in at_once(*(partial(add, world.alpha, path, b"x") for path in paths)):
        assert isinstance(file, ArtifactFile), file
    assert count(world.alpha) == (len(set(paths)), 1, 0)
    assert len(keys()) == 1
    assert content(world.alpha, paths[0]) == b"x"


@committed
@pytest.mark.usefixtures("folder")
def test_files_of_one_version_at_the_same_time(transactional_db: None) -> None:
    world = make_world()
    version = pending_version(world.alpha)
    names = [f"file-{number}" for number in range(6)]
    calls = (partial(add, world.alpha, name, name.encode(), version) for name in names)
    for file in at_once(*calls):
        assert isinstance(file, ArtifactFile), file
    with tenant_scope(world.alpha):
        assert [entry.name for entry in artifacts.files_under(version, "")] == names


def waits(holder: Callable[[Callable[[], None]], Any], waiter: Callable[[], Any]) -> list[Any]:
    """Run both; fail unless ``waiter`` ends after the pause that ``holder`` makes."""
    paused = Event()
    ended: list[str] = []

    def pause() -> None:
        paused.set()
        wait_until_somebody_waits()
        ended.append("pause")

    def wait() -> Any:
        paused.wait(120)
        result = waiter()
        ended.append("waiter")
        return result

    results = at_once(partial(holder, pause), wait)
    assert ended == ["pause", "waiter"], results
    return results


@committed
@pytest.mark.usefixtures("folder")
def test_a_version_becomes_complete_only_when_a_file_that_is_being_added_is_there(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    version = pending_version(world.alpha)
    put = artifacts._put

    def hold(pause: Callable[[], None]) -> ArtifactFile:
        def put_slowly(*arguments: Any) -> Blob:
            pause()
            return put(*arguments)

        monkeypatch.setattr(artifacts, "_put", put_slowly)
        return add(world.alpha, "a", b"1", version)

    def complete() -> None:
        with tenant_scope(world.alpha):
            ModelVersion.objects.filter(pk=version.pk).update(status="READY")

    file, _ = waits(hold, complete)
    assert isinstance(file, ArtifactFile), file
    assert content(world.alpha, "a", version) == b"1"


@committed
@pytest.mark.usefixtures("folder")
def test_a_version_is_not_finished_while_its_last_files_are_being_deleted(
    transactional_db: None,
) -> None:
    world = make_world()
    version = pending_version(world.alpha)
    add(world.alpha, "dir/a", b"1", version)

    def hold(pause: Callable[[], None]) -> int:
        with tenant_scope(world.alpha):
            deleted = artifacts.delete_under(version, "dir")
            pause()
        return deleted

    def finish() -> None:
        with (
            tenant_scope(world.alpha),
            pytest.raises(ValidationError, match="no files yet"),
        ):
            registry.finish_version(version)

    assert waits(hold, finish) == [1, None]
    with tenant_scope(world.alpha):
        version.refresh_from_db()
    assert version.status == "PENDING"


@committed
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("whole", [False, True])
def test_a_version_is_deleted_after_the_file_that_is_being_added(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Or each would wait for a row that the other holds."""
    world = make_world()
    version = pending_version(world.alpha)
    check = artifacts._check_is_free

    def hold(pause: Callable[[], None]) -> ArtifactFile:
        checked: list[str] = []

        def check_slowly(*arguments: Any) -> None:
            check(*arguments)
            checked.append("once")
            if len(checked) == 2:  # the first is when the upload begins
                pause()

        monkeypatch.setattr(artifacts, "_check_is_free", check_slowly)
        return add(world.alpha, "a", b"1", version)

    def delete() -> None:
        with tenant_scope(world.alpha):
            if whole:
                registry.delete_model(version.model, in_use=True)
            else:
                registry.delete_version(version, with_aliases=True)

    file, deleted = waits(hold, delete)
    assert isinstance(file, ArtifactFile), file
    assert deleted is None
    with tenant_scope(world.alpha):
        assert not ModelVersion.objects.filter(pk=version.pk).exists()
        assert not ArtifactFile.objects.exists()


@committed
@pytest.mark.usefixtures("folder")
def test_nobody_deletes_what_is_being_copied(transactional_db: None) -> None:
    """Or its bytes could be collected before the copy is there to be seen."""
    world = make_world()
    version = pending_version(world.alpha)
    add(world.alpha, "dir/a", b"1")

    def hold(pause: Callable[[], None]) -> int:
        with tenant_scope(world.alpha):
            copied = artifacts.snapshot(version, "dir")
            pause()
        return copied

    def delete() -> int:
        with tenant_scope(world.alpha):
            return artifacts.delete_under(None, "dir")

    assert waits(hold, delete) == [1, 1]
    assert content(world.alpha, "a", version) == b"1"


# --- finding -------------------------------------------------------------------------------


@pytest.fixture
def filled(world: World, folder: Path) -> World:
    """alpha's upload area with a few files, and names that sort around `/`."""
    for path in ("m/MLmodel", "m/data/a.bin", "m/data/deep/b.bin", "m-1/x", "m.txt", "m0", "é/ü"):
        add(world.alpha, path, path.encode())
    add(world.gamma, "m/CANARY", b"CANARY")
    return world


def test_a_folder_lists_what_lies_directly_in_it(filled: World) -> None:
    with tenant_scope(filled.alpha):
        assert artifacts.files_under(None, "m") == [
            Entry("MLmodel", False, 9),
            Entry("data", True, 12 + 17),
        ]
        assert artifacts.files_under(None, "") == [
            Entry("m", True, 9 + 12 + 17),
            Entry("m-1", True, 5),
            Entry("m.txt", False, 5),
            Entry("m0", False, 2),
            Entry("é", True, 5),
        ]
        assert artifacts.files_under(None, "m/data/deep") == [Entry("b.bin", False, 17)]
        for nothing in ("m/MLmodel", "n", "m/dat", "M"):
            assert artifacts.files_under(None, nothing) == []


def test_a_folder_costs_one_query_and_one_range_of_an_index(
    filled: World, django_assert_num_queries: Any
) -> None:
    with tenant_scope(filled.alpha):
        with django_assert_num_queries(1) as found:
            artifacts.files_under(None, "m/data")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {found.captured_queries[0]['sql']}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "file_once_in_upload_area" in plan
    assert "(path)::text >= 'm/data/'" in plan and "(path)::text < 'm/data0'" in plan


def test_deleting_takes_a_file_or_a_whole_folder_and_nothing_beside(filled: World) -> None:
    with tenant_scope(filled.alpha):
        assert artifacts.delete_under(None, "m/data") == 2
        assert artifacts.delete_under(None, "m.txt") == 1
        assert artifacts.delete_under(None, "m/dat") == 0
        assert [entry.name for entry in artifacts.files_under(None, "")] == ["m", "m-1", "m0", "é"]
    assert content(filled.gamma, "m/CANARY") == b"CANARY"


def test_a_snapshot_is_a_copy_of_rows_that_nothing_changes_later(
    filled: World, django_assert_num_queries: Any
) -> None:
    version = pending_version(filled.alpha)
    blobs = count(filled.alpha)[1]
    with tenant_scope(filled.alpha):
        with django_assert_num_queries(1):
            assert artifacts.snapshot(version, "m") == 3
        artifacts.delete_under(None, "m/MLmodel")
    add(filled.alpha, "m/data/a.bin", b"changed")
    assert content(filled.alpha, "MLmodel", version) == b"m/MLmodel"
    assert content(filled.alpha, "data/a.bin", version) == b"m/data/a.bin"
    assert count(filled.alpha)[1] == blobs + 1
    with tenant_scope(filled.alpha):
        other = ModelVersion.objects.get(model__name="fraud", number=1)
        assert artifacts.snapshot(other, "data", version) == 2
        assert artifacts.snapshot(other, "m.txt") == 1
        assert artifacts.snapshot(other, "nothing/here") == 0
        names = [(entry.name, entry.is_dir) for entry in artifacts.files_under(other, "")]
    assert names == [("a.bin", False), ("deep", True), ("m.txt", False)]


def test_a_snapshot_of_everything(filled: World) -> None:
    version = pending_version(filled.alpha)
    with tenant_scope(filled.alpha):
        assert artifacts.snapshot(version, "") == 7
    assert content(filled.alpha, "é/ü", version) == "é/ü".encode()


def test_another_teams_files_are_not_copied(filled: World) -> None:
    """Neither its upload area nor a version, even one whose id is known (L5)."""
    theirs = pending_version(filled.gamma)
    add(filled.gamma, "CANARY", b"CANARY", theirs)
    version = pending_version(filled.alpha)
    with tenant_scope(filled.alpha):
        assert artifacts.snapshot(version, "", theirs) == 0
        assert artifacts.snapshot(version, "m") == 3
        assert artifacts.file_at(version, "CANARY") is None


def test_unfinished_uploads_are_found_until_a_whole_file_came_later(filled: World) -> None:
    def unfinished(path: str) -> str | None:
        with tenant_scope(filled.alpha):
            found = artifacts.unfinished_under(path)
        return None if found is None else found.path

    assert unfinished("m") is None
    long_ago = timezone.now() - timedelta(hours=1)
    with tenant_scope(filled.alpha):
        for path, started_at in (
            ("m/new.bin", timezone.now()),
            ("m/MLmodel", long_ago),
            ("m-2/x", timezone.now()),
        ):
            Upload.objects.create(path=path, started_at=started_at)
        Upload.objects.create(path="v/x", version=ModelVersion.objects.all()[0])
    assert unfinished("m") == "m/new.bin"
    assert unfinished("m/new.bin") == "m/new.bin"
    assert unfinished("m/MLmodel") is None  # it came whole after the attempt that broke off
    assert unfinished("m/data") is None
    assert unfinished("v") is None
    assert unfinished("") == "m-2/x"
    with tenant_scope(filled.gamma):
        assert artifacts.unfinished_under("m") is None
    add(filled.alpha, "m/new.bin", b"whole")
    assert unfinished("m") is None


# --- paths ---------------------------------------------------------------------------------

GOOD_PATHS = (
    "MLmodel",
    "a/b/c.txt",
    ".hidden/..name/x..",
    "模型/été 100%.bin",
    "a;b/c=d&e?f#g",
    "%41",
    "100%25",
    "x" * 255,
    " ",
    "a\u2024\u2024/\uff0e\uff0e/b",  # dots only to the eye: a name like any other
    "/".join(["d" * 99] * 10),
)


@pytest.mark.parametrize("path", GOOD_PATHS, ids=range(len(GOOD_PATHS)))
def test_good_paths(path: str) -> None:
    validate_path(path)


@pytest.mark.parametrize("path", BAD_PATHS, ids=range(len(BAD_PATHS)))
def test_bad_paths(path: str) -> None:
    with pytest.raises(ValidationError):
        validate_path(path)


@pytest.mark.usefixtures("folder")
def test_the_longest_path_fits_the_index_and_no_path_reaches_the_disk(world: World) -> None:
    longest = "/".join("".join(chr(0x4E00 + n * 80 + m) for m in range(80)) for n in range(8))
    for path in (longest, *GOOD_PATHS):
        validate_path(path)
        add(world.alpha, path, path.encode())
        assert content(world.alpha, path) == path.encode()
    for key in keys():
        assert key.startswith(f"tenants/{world.alpha.pk}/blobs/")
        assert set(key.rpartition("/")[2]) <= set("0123456789abcdef")


@pytest.mark.usefixtures("folder")
def test_case_is_kept_apart(world: World) -> None:
    add(world.alpha, "A", b"1")
    add(world.alpha, "a", b"2")
    assert (content(world.alpha, "A"), content(world.alpha, "a")) == (b"1", b"2")


def test_a_version_takes_its_files_and_uploads_along(world: World, folder: Path) -> None:
    version = pending_version(world.alpha)
    add(world.alpha, "a", b"1", version)
    with tenant_scope(world.alpha):
        Upload.objects.create(version=version, path=f"{uuid4()}")
        RegisteredModel.objects.get(pk=version.model_id).delete()
    assert count(world.alpha) == (0, 1, 0)
