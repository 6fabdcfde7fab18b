"""What the landing in Azure Blob Storage adds to the contract: lost connections, refused rights, secrets, meters."""

from __future__ import annotations

import hashlib
import logging
import os
import traceback
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from azure.storage.blob import BlobBlock, ContainerSasPermissions, generate_container_sas

from novade_core.errors import AuthenticationFailed, ConfigurationError, LandingUnavailable, NovadeError, StorageRefused
from novade_core.landing.azure_blob import AzureBlob
from tests.azurite import ACCOUNT, Azurite, Cable, azurite, cable

PLACE = "salesforce/contact/2024/11/18/7/part-00000.parquet"
MIB = 1 << 20


@pytest.fixture
def storage() -> Azurite:
    return azurite()


@pytest.fixture
def wire(storage: Azurite) -> Iterator[Cable]:
    with cable(storage.port) as made:
        yield made


def landing(folder: Path, storage: Azurite, **changes: object) -> AzureBlob:
    return AzureBlob(storage.settings(**changes), folder)


def made(folder: Path, content: bytes) -> Path:
    path = folder / "made"
    path.write_bytes(content)
    return path


def sas(storage: Azurite, container: str, rights: str, hours: float = 1) -> str:
    return generate_container_sas(
        ACCOUNT,
        container,
        account_key=storage.key,
        permission=ContainerSasPermissions.from_string(rights),
        start=datetime.now(UTC) - timedelta(days=1),
        expiry=datetime.now(UTC) + timedelta(hours=hours),
    )


# --- content --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 3 * MIB + 5])
def test_every_blob_carries_its_md5(tmp_path, storage, size):
    settings = storage.settings()
    content = os.urandom(size)
    AzureBlob(settings, tmp_path).put_file(PLACE, made(tmp_path, content))
    there = storage.service.get_blob_client(settings.container, PLACE).get_blob_properties()
    assert bytes(there.content_settings.content_md5) == hashlib.md5(content).digest()


def test_an_upload_keeps_one_block_in_memory(tmp_path, storage):
    blob = landing(tmp_path, storage)
    blob.put_once("warm", b"x")
    local = made(tmp_path, os.urandom(24 * MIB))
    tracemalloc.start()
    blob.put_file(PLACE, local)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * MIB


def test_blocks_of_another_writer_are_never_taken_for_ours(tmp_path, storage):
    settings = storage.settings()
    blob = storage.service.get_blob_client(settings.container, PLACE)
    foreign = [BlobBlock(f"{'0' * 32}-{i:05d}") for i in range(3)]
    for block in foreign:
        blob.stage_block(block.id, b"foreign")
    content = os.urandom(2 * MIB + 1)
    AzureBlob(settings, tmp_path).put_file(PLACE, made(tmp_path, content))
    assert blob.download_blob().readall() == content


def test_a_prefix_is_ours_alone(tmp_path, storage):
    one = storage.settings(prefix="/one/")
    AzureBlob(one, tmp_path).put_once("a/b", b"1")
    two = one.model_copy(update={"prefix": "onetwo"})
    AzureBlob(two, tmp_path).put_once("a/b", b"2")
    everything = AzureBlob(one.model_copy(update={"prefix": ""}), tmp_path)
    assert AzureBlob(one, tmp_path).paths("") == ["a/b"]
    assert everything.paths("") == ["one/a/b", "onetwo/a/b"]


def test_folders_of_a_hierarchical_namespace_are_no_files(tmp_path, storage):
    settings = storage.settings()
    storage.service.get_blob_client(settings.container, "a").upload_blob(b"", metadata={"hdi_isfolder": "true"})
    blob = AzureBlob(settings, tmp_path)
    blob.put_once("a/b", b"1")
    assert blob.paths("") == ["a/b"]


@pytest.mark.parametrize("path", ["", "a//b", "a/./b", "a/", "."])
def test_a_path_with_an_empty_part_or_a_dot_is_refused(tmp_path, storage, path):
    with pytest.raises(StorageRefused, match="climbs out of the landing or has an empty part"):
        landing(tmp_path, storage).put_once(path, b"x")


def test_more_than_a_page_of_names_is_listed(tmp_path, storage, monkeypatch):
    settings = storage.settings()
    container = storage.service.get_container_client(settings.container)
    for number in range(12):
        container.upload_blob(f"n/{number:02d}", b"")
    blob = AzureBlob(settings, tmp_path)
    listed = blob._container.list_blobs
    monkeypatch.setattr(blob._container, "list_blobs", lambda **options: listed(results_per_page=5, **options))
    assert blob.paths("n") == [f"n/{number:02d}" for number in range(12)]
    assert blob.usage() == {"landing.list_operations": 3}


# --- locations ------------------------------------------------------------------------------------


def test_a_location_is_the_accounts_public_url_that_opens_and_holds_no_secret(tmp_path, storage):
    settings = storage.settings(prefix="ü b")
    token = sas(storage, settings.container, "racwl")
    with_sas = {"container": settings.container, "prefix": "ü b", "credential": "sas", "sas": token}
    blob = landing(tmp_path, storage, **with_sas)
    blob.put_once("50% #1?.parquet", b"rows")
    location = blob.location("50% #1?.parquet")
    public = f"https://{ACCOUNT}.blob.core.windows.net"
    assert location == f"{public}/{settings.container}/{quote('ü b/50% #1?.parquet')}"
    with urlopen(f"{location.replace(public, storage.endpoint())}?{token}") as answer:
        assert answer.read() == b"rows"


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({"credential": "managed_identity"}, "acme.dfs.core.windows.net"),
        ({"credential": "managed_identity", "location_endpoint": "blob"}, "acme.blob.core.windows.net"),
        ({}, "acme.blob.core.windows.net"),
        ({"location_endpoint": "dfs"}, "acme.dfs.core.windows.net"),
        ({"endpoint": "https://acme.blob.core.usgovcloudapi.net", "location_endpoint": "dfs"},
         "acme.dfs.core.usgovcloudapi.net"),
    ],
)  # fmt: skip
def test_a_location_is_at_the_endpoint_that_the_warehouses_credential_needs(tmp_path, storage, changes, host):
    blob = landing(tmp_path, storage, **({"account": "acme", "container": "raw", "endpoint": None} | changes))
    assert blob.location("a/b.parquet") == f"https://{host}/raw/a/b.parquet"


# --- lost connections -----------------------------------------------------------------------------


def test_an_upload_that_is_cut_in_the_middle_is_taken_up_again(tmp_path, storage, wire):
    wire.cut_after = 2 * MIB
    content = os.urandom(3 * MIB + 7)
    blob = landing(tmp_path, storage, port=wire.port)
    assert blob.put_file(PLACE, made(tmp_path, content)) == len(content)
    assert wire.faults == 1
    assert blob.read(PLACE) == content


def test_an_upload_that_is_cut_for_good_leaves_nothing_to_see_and_the_local_file(tmp_path, storage, wire):
    wire.cut_after, wire.times = MIB // 2, 1000
    settings = storage.settings(port=wire.port)
    local = made(tmp_path, os.urandom(3 * MIB))
    with pytest.raises(LandingUnavailable, match=f"{settings.container}.*was not reached for {PLACE}") as lost:
        AzureBlob(settings, tmp_path).put_file(PLACE, local)
    assert lost.value.origin_of_fault == "landing"
    assert wire.faults == 3
    assert local.stat().st_size == 3 * MIB
    wire.cut_after = None
    assert AzureBlob(settings, tmp_path).paths("") == []
    AzureBlob(settings, tmp_path).put_file(PLACE, local)
    assert AzureBlob(settings, tmp_path).paths("") == [PLACE]


@pytest.mark.parametrize(("size", "request_line"), [(100, b"PUT "), (2 * MIB + 1, b"comp=blocklist")])
def test_a_lost_answer_is_success_when_the_blob_is_there(tmp_path, storage, wire, size, request_line):
    wire.swallow = request_line
    content = os.urandom(size)
    blob = landing(tmp_path, storage, port=wire.port)
    blob.put_file(PLACE, made(tmp_path, content))
    assert wire.faults == 1
    assert blob.read(PLACE) == content


def test_a_lost_answer_without_a_second_try_can_be_put_again(tmp_path, storage, wire):
    wire.swallow = b"PUT "
    blob = landing(tmp_path, storage, port=wire.port, tries=1)
    with pytest.raises(LandingUnavailable):
        blob.put_once(PLACE, b"manifest")
    blob.put_once(PLACE, b"manifest")
    with pytest.raises(StorageRefused, match="already holds another"):
        blob.put_once(PLACE, b"another")


@pytest.mark.parametrize(("size", "request_line"), [(5000, b"PUT "), (2 * MIB, b"comp=block&")])
def test_what_is_damaged_on_its_way_is_noticed(tmp_path, storage, wire, size, request_line):
    wire.damage = request_line
    blob = landing(tmp_path, storage, port=wire.port)
    local = made(tmp_path, os.urandom(size))
    with pytest.raises(LandingUnavailable, match="Md5Mismatch, HTTP 400"):
        blob.put_file(PLACE, local)
    assert wire.faults == 1
    assert blob.paths("") == []
    blob.put_file(PLACE, local)


def test_nobody_listening_is_said_after_a_bounded_number_of_tries(tmp_path, storage):
    with cable(storage.port) as gone:
        settings = storage.settings(port=gone.port)
    blob = AzureBlob(settings, tmp_path)
    with pytest.raises(LandingUnavailable, match="was not reached for a: Connection refused"):
        blob.put_once("a", b"x")
    assert blob.usage() == {"landing.write_operations": 3}


# --- refusals -------------------------------------------------------------------------------------


def every_way(blob: AzureBlob, folder: Path) -> Iterator[NovadeError]:
    for attempt in (
        lambda: blob.put_once("a", b"x"),
        lambda: blob.put_file("a", made(folder, b"x" * MIB * 2)),
        lambda: blob.read("a"),
        lambda: blob.paths("a"),
    ):
        with pytest.raises(NovadeError) as refused:
            attempt()
        yield refused.value


def test_a_wrong_key_is_said_with_the_next_step(tmp_path, storage):
    for error in every_way(landing(tmp_path, storage, key="d3Jvbmc="), tmp_path):
        assert isinstance(error, AuthenticationFailed)
        assert f"storage account {ACCOUNT} refused our key" in error.message
        assert "NOVADE_LANDING_KEY" in error.hint
        assert error.origin_of_fault == "landing"


def test_a_key_that_is_none_is_said(tmp_path, storage):
    for error in every_way(landing(tmp_path, storage, key="not base64 !"), tmp_path):
        assert isinstance(error, AuthenticationFailed)
        assert "NOVADE_LANDING_KEY" in error.hint


def test_a_missing_container_is_said_with_the_next_step(tmp_path, storage):
    for error in every_way(landing(tmp_path, storage, container="nowhere"), tmp_path):
        assert isinstance(error, ConfigurationError)
        assert error.message == f"There is no container nowhere in storage account {ACCOUNT}."
        assert error.hint.startswith(f"Create the container nowhere in {ACCOUNT}")


def test_a_sas_that_may_only_read_is_told_which_rights_it_needs(tmp_path, storage):
    settings = storage.settings()
    token = sas(storage, settings.container, "rl")
    blob = landing(tmp_path, storage, container=settings.container, credential="sas", sas=token)
    with pytest.raises(ConfigurationError, match=r"does not allow what a needs .*AuthorizationPermissionMismatch") as e:
        blob.put_once("a", b"x")
    assert "sp=racwl" in e.value.hint
    assert blob.paths("") == []


def test_a_sas_without_the_right_to_overwrite_is_enough_to_create(tmp_path, storage):
    settings = storage.settings()
    token = sas(storage, settings.container, "rcl")
    blob = landing(tmp_path, storage, container=settings.container, credential="sas", sas=token)
    blob.put_once("a", b"x")
    blob.put_once("a", b"x")
    with pytest.raises(StorageRefused, match="already holds another a"):
        blob.put_once("a", b"y")


def test_a_sas_that_ended_is_said_with_its_end(tmp_path, storage):
    settings = storage.settings()
    token = sas(storage, settings.container, "racwl", hours=-1)
    blob = landing(tmp_path, storage, container=settings.container, credential="sas", sas="?" + token)
    with pytest.raises(AuthenticationFailed, match=r"the SAS ends at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ") as ended:
        blob.put_once("a", b"x")
    assert "NOVADE_LANDING_SAS" in ended.value.hint


def test_connection_strings_with_a_key_or_a_sas_work(tmp_path, storage):
    settings = storage.settings()
    token = sas(storage, settings.container, "racwl")
    for number, secret in enumerate((f"AccountKey={storage.key}", f"SharedAccessSignature={token}")):
        text = f"AccountName={ACCOUNT};{secret};BlobEndpoint={storage.endpoint()};"
        given = {"credential": "connection_string", "connection_string": text, "endpoint": None, "key": None}
        blob = landing(tmp_path, storage, container=settings.container, **given)
        blob.put_once(f"{number}", b"x")
        assert blob.paths("") == [f"{n}" for n in range(number + 1)]
        assert blob.location("a") == f"https://{ACCOUNT}.blob.core.windows.net/{settings.container}/a"


@pytest.mark.parametrize("text", ["nonsense", "AccountName=a", "AccountKey=secret-word;x"])
def test_a_connection_string_that_is_none_is_refused_without_showing_it(tmp_path, storage, text):
    blob = landing(tmp_path, storage, credential="connection_string", connection_string=text)
    with pytest.raises(ConfigurationError, match="is none of Azure Blob Storage") as refused:
        blob.put_once("a", b"x")
    assert "NOVADE_LANDING_CONNECTION_STRING" in refused.value.hint
    assert "secret-word" not in "".join(traceback.format_exception(refused.value))


def test_a_blob_that_something_else_holds_is_refused(tmp_path, storage):
    settings = storage.settings()
    blob = AzureBlob(settings, tmp_path)
    storage.service.get_blob_client(settings.container, "a").upload_blob(b"x").get("etag")
    storage.service.get_blob_client(settings.container, "a").acquire_lease()
    blob.put_once("a", b"x")
    with pytest.raises(StorageRefused, match="already holds another a"):
        blob.put_once("a", b"y")


def test_no_secret_reaches_a_message_a_trace_or_a_log(tmp_path, storage, wire, caplog):
    caplog.set_level(logging.DEBUG)
    settings = storage.settings()
    good, bad = (sas(storage, settings.container, "racwl", hours=hours) for hours in (1, -1))
    given = {"container": settings.container, "credential": "sas"}
    with cable(storage.port) as gone:
        pass
    shown = []
    for changes in ({"sas": good}, {"sas": bad}, {"sas": good, "port": gone.port}, {"sas": good, "port": wire.port}):
        wire.cut_after, wire.times = 100, 1000
        blob = landing(tmp_path, storage, **given, **changes)
        shown.append(repr(blob._settings))
        for attempt in (lambda blob=blob: blob.put_once("a", b"x"), lambda blob=blob: blob.paths("")):
            try:
                attempt()
            except NovadeError as error:
                shown += [error.message, error.hint, "".join(traceback.format_exception(error))]
    assert len(shown) > 12
    text = "\n".join([*shown, caplog.text])
    for secret in (storage.key, *(token.partition("sig=")[2].partition("&")[0] for token in (good, bad))):
        assert secret not in text


# --- meters ---------------------------------------------------------------------------------------


def test_requests_are_metered_by_billing_class(tmp_path, storage):
    blob = landing(tmp_path, storage)
    blob.put_once("small", b"x" * 10)
    assert blob.usage() == {"landing.write_operations": 1, "landing.bytes_written": 10}
    blob.put_file("large", made(tmp_path, b"y" * (2 * MIB + 1)))
    assert blob.usage() == {"landing.write_operations": 5, "landing.bytes_written": 10 + 2 * MIB + 1}
    before = dict(blob.usage())
    blob.put_once("small", b"x" * 10)
    blob.read("small")
    blob.paths("")
    assert {meter: count - before.get(meter, 0) for meter, count in blob.usage().items()} == {
        "landing.write_operations": 1,
        "landing.other_operations": 1,
        "landing.read_operations": 1,
        "landing.list_operations": 1,
        "landing.bytes_read": 10,
        "landing.bytes_written": 0,
    }
