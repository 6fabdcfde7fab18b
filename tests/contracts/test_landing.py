"""What every landing promises: files are written once, whole, and only where they belong."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from novade_core.errors import StorageRefused
from novade_core.landing import paths
from novade_core.landing.base import Landing, Manifest, file_sha256, load_id
from novade_core.landing.local_folder import LocalFolder
from novade_core.streams import Column, ColumnType, Stream, WindowCount
from tests.contracts.refusals import files_end_at, mode, small_disk

NOW = datetime(2024, 11, 18, 23, 59, 59, tzinfo=UTC)
PLACE = "salesforce/contact/2024/11/18/7/part-00000.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "landing")


def local_file(landing: Landing, content: bytes, name: str = "made") -> Path:
    path = landing.scratch() / name
    path.write_bytes(content)
    return path


def visible(landing: Landing) -> list[str]:
    return [p for p in landing.paths("") if not p.startswith(".scratch/")]


def test_a_file_arrives_whole_and_its_local_copy_is_gone(landing):
    local = local_file(landing, b"rows" * 1000)
    assert landing.put_file(PLACE, local) == 4000
    assert landing.read(PLACE) == b"rows" * 1000
    assert not local.exists()


def test_a_file_may_be_empty_or_larger_than_a_request(landing):
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 12_345):
        content = os.urandom(size)
        assert landing.put_file(f"{size}", local_file(landing, content)) == size
        assert landing.read(f"{size}") == content
        landing.put_once(f"once/{size}", content)
        assert landing.read(f"once/{size}") == content


@pytest.mark.parametrize("size", [100, (2 << 20) + 100], ids=["one-request", "in-blocks"])
def test_a_file_is_never_rewritten_by_another(landing, size):
    landing.put_file(PLACE, local_file(landing, b"1" * size))
    second = local_file(landing, b"2" * size)
    with pytest.raises(StorageRefused, match=r"already holds another .*part-00000"):
        landing.put_file(PLACE, second)
    assert landing.read(PLACE) == b"1" * size
    assert second.exists()


def test_the_same_file_may_be_put_again(landing):
    for _ in range(2):
        local = local_file(landing, b"the same")
        assert landing.put_file(PLACE, local) == 8
        assert not local.exists()
    assert landing.read(PLACE) == b"the same"


@pytest.mark.parametrize("size", [100, (2 << 20) + 100], ids=["one-request", "in-blocks"])
@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
def test_of_writers_at_once_one_creates_the_file_whole(landing, size, same):
    def write(number: int) -> bytes | str:
        content = bytes([0 if same else number]) * size
        local = local_file(landing, content, f"made-{number}")
        together.wait(timeout=30)
        try:
            landing.put_file(PLACE, local)
        except StorageRefused as error:
            return error.message
        return content

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(write, range(4)))
    refused = [end for end in ends if isinstance(end, str)]
    assert refused == [f"The landing already holds another {PLACE}."] * (0 if same else 3)
    assert landing.read(PLACE) in ends


def test_what_was_written_is_metered(landing):
    landing.put_once("a", b"x" * 10)
    landing.put_file("b", local_file(landing, b"y" * 90))
    landing.put_once("a", b"x" * 10)
    assert landing.usage()["landing.bytes_written"] == 100


def test_the_same_content_may_be_put_again(landing):
    landing.put_once("a/_manifest.json", b"{}")
    landing.put_once("a/_manifest.json", b"{}")
    assert landing.read("a/_manifest.json") == b"{}"


def test_other_content_is_refused_with_the_next_step(landing):
    landing.put_once("a/_manifest.json", b"{}")
    with pytest.raises(StorageRefused, match=r"already holds another a/_manifest\.json") as refused:
        landing.put_once("a/_manifest.json", b"[]")
    assert "never rewritten" in refused.value.hint
    assert landing.read("a/_manifest.json") == b"{}"


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/novade", "a/b/../../../outside"])
def test_a_path_that_climbs_out_is_refused(landing, path, tmp_path):
    local = local_file(landing, b"x")
    for attempt in (
        lambda: landing.put_once(path, b"x"),
        lambda: landing.put_file(path, local),
        lambda: landing.read(path),
        lambda: landing.location(path),
        lambda: landing.paths(path),
    ):
        with pytest.raises(StorageRefused, match="climbs out"):
            attempt()
    assert not (tmp_path / "outside").exists()
    assert local.exists()


def test_paths_are_sorted_relative_and_those_of_the_prefix_only(landing):
    for path in ("b/2", "b/10", "a/z/1", "b/_rejects/1", "c"):
        landing.put_once(path, b"x")
    assert landing.paths("b") == ["b/10", "b/2", "b/_rejects/1"]
    assert visible(landing) == ["a/z/1", "b/10", "b/2", "b/_rejects/1", "c"]
    assert landing.paths("nowhere") == []


def test_reading_what_is_not_there_is_refused_by_name(landing):
    with pytest.raises(StorageRefused, match="nothing/here"):
        landing.read("nothing/here")


def test_odd_names_are_kept(landing):
    names = ["a b/ü 'x'", "[a]*?/p", "emoji/😀", "50%/25%25", "a#b/c?d=e&f", "a+b/~c;d,e", "dots.../.hidden", 'q"<>|']
    for name in names:
        landing.put_once(name, name.encode())
        assert landing.read(name) == name.encode()
    assert visible(landing) == sorted(names)


def test_an_empty_file_can_land(landing):
    landing.put_once("empty", b"")
    assert landing.read("empty") == b""


def test_a_location_in_a_folder_is_a_path_that_opens(folder):
    folder.put_once(PLACE, b"x")
    assert Path(folder.location(PLACE)).read_bytes() == b"x"


def test_scratch_of_a_folder_lies_on_the_same_volume_and_takes_files(folder):
    landing = folder
    scratch = landing.scratch()
    landing.put_once("x", b"x")
    assert scratch.stat().st_dev == Path(landing.location("x")).stat().st_dev
    assert landing.scratch() == scratch


def test_a_write_that_fails_half_way_leaves_nothing_to_see(folder):
    landing = folder
    landing.put_once("before", b"x")
    with files_end_at(4096), pytest.raises(StorageRefused, match="cannot take big") as refused:
        landing.put_once("big", b"y" * 100_000)
    assert "free space" in refused.value.hint
    assert landing.paths("") == ["before"]


def test_a_full_disk_leaves_nothing_to_see_and_says_so(tmp_path):
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("mounting a small volume is not allowed here")
        landing = LocalFolder(tmp_path / "disk" / "landing")
        landing.put_once("before", b"x")
        with pytest.raises(StorageRefused, match="No space left on device"):
            landing.put_once("big", b"y" * (2 << 20))
        assert landing.paths("") == ["before"]
        landing.put_once("small", b"z")


def test_a_read_only_folder_is_refused_before_anything_is_written(tmp_path):
    root = tmp_path / "landing"
    root.mkdir()
    landing = LocalFolder(root)
    with mode(root, 0o555):
        with pytest.raises(StorageRefused, match="Permission denied") as refused:
            landing.put_once("a/b", b"x")
        with pytest.raises(StorageRefused, match="Permission denied"):
            landing.scratch()
    assert str(root) in refused.value.message
    assert landing.paths("") == []


def test_a_file_that_cannot_land_stays_where_it_was_made(tmp_path):
    landing = LocalFolder(tmp_path / "landing")
    local = local_file(landing, b"rows")
    with mode(tmp_path / "landing", 0o555), pytest.raises(StorageRefused, match="Permission denied"):
        landing.put_file(PLACE, local)
    assert local.read_bytes() == b"rows"
    assert visible(landing) == []


def test_a_file_in_the_place_of_a_folder_is_refused(folder):
    landing = folder
    landing.put_once("a", b"x")
    local = local_file(landing, b"y")
    with pytest.raises(StorageRefused, match="a/b"):
        landing.put_once("a/b", b"y")
    with pytest.raises(StorageRefused, match="a/b"):
        landing.put_file("a/b", local)
    assert visible(landing) == ["a"]


def test_an_unreadable_file_is_refused_by_name(tmp_path):
    landing = LocalFolder(tmp_path)
    landing.put_once("secret", b"x")
    with mode(tmp_path / "secret", 0o000), pytest.raises(StorageRefused, match="secret: Permission denied"):
        landing.read("secret")


def test_a_local_file_that_vanished_is_refused(landing):
    with pytest.raises(StorageRefused) as refused:
        landing.put_file(PLACE, landing.scratch() / "gone")
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.ENOENT
    assert visible(landing) == []


# --- names and manifests --------------------------------------------------------------------------

STREAM = Stream(
    source="salesforce",
    name="contact",
    label="Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
)


def test_names_follow_the_rule_and_companions_start_with_an_underscore():
    folder = paths.run_folder(STREAM, 7, NOW)
    assert folder == "salesforce/contact/2024/11/18/7"
    assert paths.part(folder, 3) == f"{folder}/part-00003.parquet"
    assert paths.manifest(folder, 3) == f"{folder}/_manifest-00003.json"
    assert paths.rejects(folder, 3) == f"{folder}/_rejects/part-00003.jsonl"


def manifest(**changes) -> Manifest:
    given = {
        "stream": "salesforce.contact",
        "run_id": 7,
        "chunk": 0,
        "window": {"low": None, "high": None, "part": "live", "expected": None},
        "files": [{"path": PLACE, "rows": 2, "bytes": 10, "sha256": "0" * 64}],
        "rows": 2,
        "rejected": 0,
        "cursor_low": NOW,
        "cursor_high": NOW,
        "hours": [WindowCount(hour="2024-11-18T23", rows=2, key_hash="1", row_hash="2")],
        "columns": [Column(name="Námé", type=ColumnType.TEXT)],
        "landed_at": NOW,
    }
    return Manifest(**(given | changes))


def test_equal_manifests_have_equal_bytes_and_so_one_load_id():
    assert manifest().to_bytes() == manifest().to_bytes()
    assert b" " not in manifest().to_bytes().replace(b"N\xc3\xa1m\xc3\xa9", b"")
    assert "Námé".encode() in manifest().to_bytes()


@pytest.mark.parametrize("change", [{"run_id": 8}, {"chunk": 1}, {"rows": 3}, {"cursor_low": None}, {"files": []}])
def test_any_difference_is_another_load(change):
    assert load_id(manifest(**change).to_bytes()) != load_id(manifest().to_bytes())


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == load_id(content)
